#include "cresco/dictionaries/matrix_sae.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/random_source.h"
#include "cresco/dictionaries/selection.h"
#include "cresco/dictionaries/straight_through.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

at::Tensor mean_squared_length(const at::Tensor& error_BD) {
  return error_BD.square().sum(1).mean();
}

}  // namespace

const std::vector<MatrixSaeClass>& matrix_sae_classes() {
  using enum ActivationKind;
  static const std::vector<MatrixSaeClass> all{
      {"gated", Gated},
      {"jumprelu", JumpRelu},
      {"topk", TopK},
      {"tied_topk", TopK, /*tied=*/true},
      {"batchtopk", BatchTopK},
      {"tied_batchtopk", BatchTopK, /*tied=*/true},
      {"matryoshka", BatchTopK, /*tied=*/false, /*nested=*/true},
      {"tied_matryoshka", BatchTopK, /*tied=*/true, /*nested=*/true},
      {"vanilla_l1", Relu}};
  return all;
}

const MatrixSaeClass& matrix_sae_class(const std::string& name) {
  std::vector<std::string> names;
  for (const MatrixSaeClass& known : matrix_sae_classes()) {
    if (name == known.name) return known;
    names.emplace_back(known.name);
  }
  fail_usage("class '{}' is not one of {}{}", escape_for_terminal(name), join(names, ", "),
             did_you_mean(name, names));
}

void check(const MatrixSaeConfig& c) {
  const MatrixSaeClass& kind = matrix_sae_class(c.sae_class);
  const auto at_least = [](const char* field, auto value, auto least) {
    require_usage(value >= least && std::isfinite(static_cast<double>(value)),
                  "{} is {}, expected {} or more", field, value, least);
  };
  const auto positive = [](const char* field, double value) {
    require_usage(value > 0 && std::isfinite(value), "{} is {}, expected more than 0", field,
                  value);
  };
  const std::vector<std::string> modes{"none", "center", "center_scale"};
  require_usage(std::find(modes.begin(), modes.end(), c.input_preprocess) != modes.end(),
                "input_preprocess '{}' is not one of {}{}", c.input_preprocess, join(modes, ", "),
                did_you_mean(c.input_preprocess, modes));
  at_least("expansion_factor", c.expansion_factor, 0.0);
  require_usage(c.d_sae > 0 || (c.d_sae == 0 && c.expansion_factor > 0),
                "d_sae is {}: say how many features the dictionary has (--d-sae 8192)", c.d_sae);
  require_usage(c.d_sae <= std::int64_t{1} << 31, "d_sae is {}, more than any matrix here can hold",
                c.d_sae);
  for (const auto& [field, value] :
       {std::pair{"k", c.k}, std::pair{"dead_refresh", c.dead_refresh},
        std::pair{"matryoshka_levels", c.matryoshka_levels}, std::pair{"n_epochs", c.n_epochs},
        std::pair{"val_every", c.val_every}})
    at_least(field, value, std::int64_t{1});
  for (const auto& [field, value] :
       {std::pair{"k_aux", c.k_aux}, std::pair{"lambda_warmup", c.lambda_warmup},
        std::pair{"lr_warmup", c.lr_warmup}, std::pair{"patience", c.patience},
        std::pair{"resample_every", c.resample_every},
        std::pair{"resample_margin", c.resample_margin}})
    at_least(field, value, std::int64_t{0});
  for (const auto& [field, value] :
       {std::pair{"auxk_coefficient", c.auxk_coefficient}, std::pair{"target_l0", c.target_l0},
        std::pair{"lambda_rate", c.lambda_rate}, std::pair{"lr", c.lr},
        std::pair{"weight_decay", c.weight_decay}, std::pair{"noise_std", c.noise_std},
        std::pair{"grad_clip", c.grad_clip}})
    at_least(field, value, 0.0);
  for (const auto& [field, value] :
       {std::pair{"init_lambda", c.init_lambda}, std::pair{"min_lambda", c.min_lambda},
        std::pair{"max_lambda", c.max_lambda}, std::pair{"init_threshold", c.init_threshold},
        std::pair{"bandwidth", c.bandwidth}})
    positive(field, value);
  require_usage(c.min_lambda <= c.max_lambda, "min_lambda {} is more than max_lambda {}",
                c.min_lambda, c.max_lambda);
  require_usage(c.lr_start >= 0 && c.lr_start <= 1, "lr_start is {}, expected a share from 0 to 1",
                c.lr_start);
  require_usage(c.val_fraction > 0 && c.val_fraction < 1,
                "val_fraction is {}, expected a share between 0 and 1", c.val_fraction);
  require_usage(kind.has_penalty() || c.d_sae == 0 || c.k <= c.d_sae,
                "k is {}, more than the {} features", c.k, c.d_sae);
}

MatrixSaeConfig resolved(MatrixSaeConfig config, std::int64_t width) {
  check(config);
  resolve_size(config.d_sae, config.expansion_factor, width);
  if (config.k_aux == 0) config.k_aux = 2 * config.k;
  check(config);
  return config;
}

std::vector<std::int64_t> levels(const MatrixSaeConfig& config) {
  if (!matrix_sae_class(config.sae_class).nested) return {config.d_sae};
  std::vector<std::int64_t> sizes;
  for (std::int64_t i = 0; i < config.matryoshka_levels && i < 63; ++i)
    sizes.push_back(std::max(config.k, config.d_sae >> i));
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

std::vector<tensor::NamedTensor> MatrixSaeParameters::named() const {
  std::vector<tensor::NamedTensor> all;
  for (const auto& [name, t] :
       {std::pair{"W_enc", encoder_DF}, std::pair{"b_enc", encoder_bias_F},
        std::pair{"W_dec", decoder_FD}, std::pair{"b_dec", decoder_bias_D},
        std::pair{"log_threshold", log_threshold_F}, std::pair{"b_gate", gate_bias_F},
        std::pair{"r_mag", log_magnitude_F}, std::pair{"b_mag", magnitude_bias_F}})
    if (t.defined()) all.emplace_back(name, t);
  return all;
}

MatrixSaeParameters initial_matrix_sae(const MatrixSaeConfig& config, std::uint64_t seed,
                                       std::int64_t width) {
  const MatrixSaeClass& kind = matrix_sae_class(config.sae_class);
  const auto drawn = draw_initial_matrices(RandomKind::Philox, seed, width, config.d_sae);
  const at::Tensor zeros_F = at::zeros({config.d_sae});
  MatrixSaeParameters p{.decoder_FD = drawn.decoder_FD, .decoder_bias_D = at::zeros({width})};
  if (!kind.tied) p.encoder_DF = drawn.encoder_DF;
  if (kind.activation == ActivationKind::Gated) {
    p.gate_bias_F = zeros_F;
    p.log_magnitude_F = zeros_F.clone();
    p.magnitude_bias_F = zeros_F.clone();
  } else {
    p.encoder_bias_F = zeros_F;
  }
  if (kind.activation == ActivationKind::JumpRelu)
    p.log_threshold_F = at::full({config.d_sae}, std::log(config.init_threshold));
  MatrixSae(config, p).normalise_decoder();
  for (auto& [name, t] : p.named()) t.set_requires_grad(true);
  return p;
}

MatrixSae::MatrixSae(const MatrixSaeConfig& resolved, MatrixSaeParameters parameters)
    : config_(resolved),
      class_(&matrix_sae_class(resolved.sae_class)),
      parameters_(std::move(parameters)) {}

at::Tensor MatrixSae::encoder_DF() const {
  return class_->tied ? parameters_.decoder_FD.t() : parameters_.encoder_DF;
}

at::Tensor MatrixSae::folded_bias_F() const {
  const at::Tensor shift_F = parameters_.decoder_bias_D.unsqueeze(0).mm(encoder_DF()).squeeze(0);
  return parameters_.encoder_bias_F.defined() ? parameters_.encoder_bias_F - shift_F : -shift_F;
}

// With b_dec in the bias, x itself needs no gradient.
at::Tensor MatrixSae::pre_activation(const at::Tensor& x_BD) const {
  return at::addmm(folded_bias_F(), x_BD, encoder_DF());
}

at::Tensor MatrixSae::codes(const at::Tensor& z_BF) const {
  const MatrixSaeParameters& p = parameters_;
  switch (class_->activation) {
    case ActivationKind::Gated:
      return step_with_sigmoid_gradient(z_BF + p.gate_bias_F) *
             at::relu(p.log_magnitude_F.exp() * z_BF + p.magnitude_bias_F);
    case ActivationKind::JumpRelu:
      return z_BF *
             step_with_sigmoid_gradient((z_BF - p.log_threshold_F.exp()) / config_.bandwidth);
    case ActivationKind::TopK:
      return keep_largest_in_rows(at::relu(z_BF), config_.k);
    case ActivationKind::BatchTopK:
      return keep_largest(at::relu(z_BF), z_BF.size(0) * config_.k);
    default:
      return at::relu(z_BF);
  }
}

at::Tensor MatrixSae::decode(const at::Tensor& code_BF) const {
  return at::addmm(parameters_.decoder_bias_D, code_BF, parameters_.decoder_FD);
}

at::Tensor MatrixSae::reconstruct(const at::Tensor& x_BD) const {
  return decode(codes(pre_activation(x_BD)));
}

at::Tensor MatrixSae::penalty(const at::Tensor& z_BF, const at::Tensor& code_BF) const {
  const MatrixSaeParameters& p = parameters_;
  switch (class_->activation) {
    case ActivationKind::Gated:
      return (z_BF + p.gate_bias_F).sigmoid().sum(1).mean();
    case ActivationKind::JumpRelu:
      return ((z_BF - p.log_threshold_F.exp()) / config_.bandwidth).sigmoid().sum(1).mean();
    default:
      return code_BF.abs().sum(1).mean();
  }
}

at::Tensor MatrixSae::auxk(const at::Tensor& z_BF, const at::Tensor& residual_BD,
                           const at::Tensor& dead_F) const {
  const at::Tensor dead = dead_F.nonzero().squeeze(1);
  if (dead.size(0) == 0) return at::zeros({}, z_BF.options());
  const at::Tensor code_BA =
      at::relu(keep_largest_in_rows(z_BF.index_select(1, dead), config_.k_aux));
  return mean_squared_length(residual_BD -
                             code_BA.mm(parameters_.decoder_FD.index_select(0, dead)));
}

MatrixSae::Loss MatrixSae::loss(const at::Tensor& z_BF, const at::Tensor& x_BD, double lambda,
                                const at::Tensor& dead_F) const {
  Loss out;
  out.code_BF = codes(z_BF);
  const at::Tensor r_BD = decode(out.code_BF);
  out.recon = mean_squared_length(r_BD - x_BD);
  out.aux = at::zeros({}, z_BF.options());
  out.loss = out.recon;
  if (class_->has_penalty()) {
    out.aux = penalty(z_BF, out.code_BF);
    out.loss = out.recon + lambda * out.aux;
  } else if (class_->has_auxk()) {
    out.aux = auxk(z_BF, (x_BD - r_BD).detach(), dead_F);
    out.loss = out.recon + config_.auxk_coefficient * out.aux;
  } else if (class_->nested) {
    const std::vector<std::int64_t> sizes = levels(config_);
    for (std::size_t i = 0; i + 1 < sizes.size(); ++i) {  // the last one is recon
      const at::Tensor code_BM = codes(z_BF.narrow(1, 0, sizes[i]));
      const at::Tensor r_level_BD = at::addmm(parameters_.decoder_bias_D, code_BM,
                                              parameters_.decoder_FD.narrow(0, 0, sizes[i]));
      out.loss = out.loss + mean_squared_length(r_level_BD - x_BD);
    }
    out.loss = out.loss / static_cast<double>(sizes.size());
  }
  return out;
}

void MatrixSae::normalise_decoder() {
  const torch::autograd::AutoGradMode no_grad(false);
  const at::Tensor norm_F1 = at::linalg_vector_norm(parameters_.decoder_FD, 2, {1}, true);
  parameters_.decoder_FD.div_(norm_F1.clamp_min_(1e-12));
}

CrosscoderParameters MatrixSae::folded() const {
  const torch::autograd::AutoGradMode no_grad(false);
  const MatrixSaeParameters& p = parameters_;
  // The one sum that is rounded is taken in double.
  const at::Tensor encoder_DF = this->encoder_DF().detach();
  at::Tensor bias_F =
      -p.decoder_bias_D.to(at::kDouble).unsqueeze(0).mm(encoder_DF.to(at::kDouble)).squeeze(0);
  if (p.encoder_bias_F.defined()) bias_F += p.encoder_bias_F;
  const auto own = [](const at::Tensor& t) { return t.defined() ? t.detach().clone() : t; };
  return {.encoder_KDF = encoder_DF.contiguous().clone().unsqueeze(0),
          .encoder_bias_KF = bias_F.to(encoder_DF.scalar_type()).unsqueeze(0),
          .decoder_KFD = own(p.decoder_FD).unsqueeze(0),
          .decoder_bias_KD = own(p.decoder_bias_D).unsqueeze(0),
          .log_threshold_F = own(p.log_threshold_F),
          .gate_bias_F = own(p.gate_bias_F),
          .log_magnitude_F = own(p.log_magnitude_F),
          .magnitude_bias_F = own(p.magnitude_bias_F)};
}

Activation MatrixSae::activation(std::int64_t num_rows) const {
  Activation out{.kind = class_->activation};
  if (!class_->has_penalty()) {
    out.k = config_.k;
    out.slice_rows = num_rows;
  }
  return out;
}

}  // namespace cresco::dictionaries
