#include "cresco/dictionaries/crosscoder.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/selection.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

void check_one_of(const char* field, const std::string& value,
                  const std::vector<std::string>& known) {
  require_usage(std::find(known.begin(), known.end(), value) != known.end(),
                "{} '{}' is not one of {}{}", field, value, join(known, ", "),
                did_you_mean(value, known));
}

void check_at_least(const char* field, double value, double least) {
  require_usage(value >= least && std::isfinite(value), "{} is {}, expected {} or more", field,
                value, least);
}

void check_positive(const char* field, double value) {
  require_usage(value > 0 && std::isfinite(value), "{} is {}, expected more than 0", field, value);
}

}  // namespace

namespace {

constexpr std::pair<ActivationKind, const char*> kActivations[] = {
    {ActivationKind::JumpRelu, "jumprelu"}, {ActivationKind::SharedJumpRelu, "shared_jumprelu"},
    {ActivationKind::TopK, "topk"},         {ActivationKind::BatchTopK, "batchtopk"},
    {ActivationKind::Gated, "gated"},       {ActivationKind::Relu, "relu"}};

}  // namespace

const char* name_of(ActivationKind kind) {
  for (const auto& [known, name] : kActivations)
    if (known == kind) return name;
  fail("activation {} has no name", static_cast<int>(kind));
}

ActivationKind activation_named(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [kind, known] : kActivations) {
    if (name == known) return kind;
    names.emplace_back(known);
  }
  fail_usage("activation '{}' is not one of {}{}", escape_for_terminal(name), join(names, ", "),
             did_you_mean(name, names));
}

void check(const CrosscoderConfig& c) {
  check_at_least("lr", c.lr, 0);
  check_at_least("l1_coefficient", c.l1_coefficient, 0);
  check_positive("frequency_scale", c.frequency_scale);
  check_positive("tanh_stretch_coefficient", c.tanh_stretch_coefficient);
  check_at_least("jumprelu_lr_factor", c.jumprelu_lr_factor, 0);
  check_positive("init_threshold", c.init_threshold);
  check_at_least("decoder_transpose_init", c.decoder_transpose_init, 0);
  check_one_of("amp_dtype", c.amp_dtype, {"fp32", "bf16", "tf32"});
  check_one_of("optimizer", c.optimizer, {"adam", "adamw", "sparse_adam"});
  check_at_least("weight_decay", c.weight_decay, 0);
  require_usage(c.weight_decay == 0 || c.optimizer == "adamw",
                "weight_decay is {}: optimizer {} has none, adamw has", c.weight_decay,
                c.optimizer);
  check_one_of("input_preprocess", c.input_preprocess, {"none", "center", "center_scale"});
  check_at_least("n_epochs", static_cast<double>(c.n_epochs), 1);
  check_at_least("batch_size", static_cast<double>(c.batch_size), 1);
  check_at_least("expansion_factor", c.expansion_factor, 0);
  for (const auto& [field, value] : {std::pair{"l1_warmup_fraction", c.l1_warmup_fraction},
                                     std::pair{"lr_warmup_fraction", c.lr_warmup_fraction},
                                     std::pair{"lr_decay_fraction", c.lr_decay_fraction}})
    require_usage(value >= 0 && value <= 1, "{} is {}, expected a share from 0 to 1", field, value);
  check_at_least("auxk_coefficient", c.auxk_coefficient, 0);
  check_at_least("auxk_k", static_cast<double>(c.auxk_k), 1);
  check_at_least("dead_window_steps", static_cast<double>(c.dead_window_steps), 0);
  check_at_least("noise_std", c.noise_std, 0);
  check_at_least("target_l0", c.target_l0, 0);
  check_at_least("k", static_cast<double>(c.k), 1);
  check_at_least("gated_l1_coefficient", c.gated_l1_coefficient, 0);
  check_positive("bandwidth", c.bandwidth);
  require_usage(c.d_sae > 0 || (c.d_sae == 0 && c.expansion_factor > 0),
                "d_sae is {}: say how many features the dictionary has (--d-sae 8192)", c.d_sae);
  require_usage(c.d_sae <= std::int64_t{1} << 31, "d_sae is {}, more than any matrix here can hold",
                c.d_sae);
}

void resolve_size(std::int64_t& d_sae, double& expansion_factor, std::int64_t width) {
  if (d_sae == 0) d_sae = static_cast<std::int64_t>(static_cast<double>(width) * expansion_factor);
  require_usage(d_sae > 0, "expansion_factor {} of width {} leaves no feature", expansion_factor,
                width);
  require_usage(expansion_factor == 0 || std::abs(static_cast<double>(width) * expansion_factor -
                                                  static_cast<double>(d_sae)) < 1,
                "d_sae is {}, but expansion_factor {} of width {} makes {}: give one of them",
                d_sae, expansion_factor, width,
                static_cast<std::int64_t>(static_cast<double>(width) * expansion_factor));
  expansion_factor = static_cast<double>(d_sae) / static_cast<double>(width);
}

CrosscoderConfig resolved(CrosscoderConfig config, std::int64_t width) {
  check(config);
  resolve_size(config.d_sae, config.expansion_factor, width);
  return config;
}

std::int64_t CrosscoderParameters::count() const {
  std::int64_t sum = 0;
  for (const auto& [name, p] : named()) sum += p.numel();
  return sum;
}

std::vector<tensor::NamedTensor> CrosscoderParameters::named() const {
  std::vector<tensor::NamedTensor> all{{"W_E", encoder_KDF},
                                       {"b_E", encoder_bias_KF},
                                       {"W_D", decoder_KFD},
                                       {"b_D", decoder_bias_KD}};
  for (const auto& [name, t] :
       {std::pair{"log_jumprelu_threshold", log_threshold_F}, std::pair{"b_gate", gate_bias_F},
        std::pair{"r_mag", log_magnitude_F}, std::pair{"b_mag", magnitude_bias_F}})
    if (t.defined()) all.emplace_back(std::string("activation_function.") + name, t);
  return all;
}

CrosscoderParameters CrosscoderParameters::empty_like() const {
  const auto like = [](const at::Tensor& t) { return t.defined() ? at::empty_like(t) : t; };
  return {like(encoder_KDF),     like(encoder_bias_KF), like(decoder_KFD),
          like(decoder_bias_KD), like(log_threshold_F), like(gate_bias_F),
          like(log_magnitude_F), like(magnitude_bias_F)};
}

CrosscoderParameters CrosscoderParameters::heads(std::int64_t first, std::int64_t count) const {
  CrosscoderParameters p = *this;
  for (at::Tensor* t : {&p.encoder_KDF, &p.encoder_bias_KF, &p.decoder_KFD, &p.decoder_bias_KD})
    *t = t->narrow(0, first, count);
  return p;
}

CrosscoderParameters CrosscoderParameters::to(at::Device device) const {
  const auto moved = [&](const at::Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {moved(encoder_KDF),     moved(encoder_bias_KF), moved(decoder_KFD),
          moved(decoder_bias_KD), moved(log_threshold_F), moved(gate_bias_F),
          moved(log_magnitude_F), moved(magnitude_bias_F)};
}

CrosscoderParameters initial_parameters(const CrosscoderConfig& config, std::int64_t num_heads,
                                        const at::Tensor& encoder_DF,
                                        const at::Tensor& decoder_FD) {
  const auto F = decoder_FD.size(0), D = decoder_FD.size(1);
  const auto options = decoder_FD.options();
  const at::Tensor first_DF = config.decoder_transpose_init > 0
                                  ? decoder_FD.t().mul(config.decoder_transpose_init)
                                  : encoder_DF;
  return {first_DF.expand({num_heads, D, F}).contiguous(), at::zeros({num_heads, F}, options),
          decoder_FD.expand({num_heads, F, D}).contiguous(), at::zeros({num_heads, D}, options),
          at::full({F}, std::log(config.init_threshold), options)};
}

Crosscoder::Crosscoder(CrosscoderParameters parameters, Activation activation)
    : parameters_(std::move(parameters)),
      activation_(activation),
      norm_KF_(at::linalg_vector_norm(parameters_.decoder_KFD, 2, {-1})) {
  if (parameters_.log_threshold_F.defined()) threshold_F_ = parameters_.log_threshold_F.exp();
}

at::Tensor Crosscoder::pre_activation(const at::Tensor& x_BKD) const {
  return at::addmm(parameters_.encoder_bias_KF.sum(0), x_BKD.flatten(1),
                   parameters_.encoder_KDF.flatten(0, 1));
}

at::Tensor Crosscoder::codes(const at::Tensor& p_BF, std::int64_t k) const {
  switch (activation_.kind) {
    case ActivationKind::JumpRelu:
      return p_BF.masked_fill((p_BF * norm_KF_[k]).le(threshold_F_), 0);
    case ActivationKind::SharedJumpRelu:
      return p_BF.masked_fill(p_BF.le(threshold_F_), 0);
    case ActivationKind::Gated: {
      const at::Tensor magnitude_BF =
          at::relu(p_BF * parameters_.log_magnitude_F.exp() + parameters_.magnitude_bias_F);
      return magnitude_BF.masked_fill((p_BF + parameters_.gate_bias_F).le(0), 0);
    }
    case ActivationKind::TopK:
      return keep_largest_in_rows(at::relu(p_BF), activation_.k);
    case ActivationKind::BatchTopK:
      return select_largest(at::relu(p_BF));
    case ActivationKind::Relu:
      return at::relu(p_BF);
  }
  fail("activation {} has no codes", static_cast<int>(activation_.kind));
}

at::Tensor Crosscoder::open(const at::Tensor& p_BF, std::int64_t k) const {
  return codes(p_BF, k).gt(0);
}

// Of each slice of rows the (rows k) largest numbers; zeros elsewhere.
at::Tensor Crosscoder::select_largest(const at::Tensor& p_BF) const {
  const std::int64_t rows = p_BF.size(0);
  const std::int64_t slice = activation_.slice_rows > 0 ? activation_.slice_rows : rows;
  if (slice >= rows) return keep_largest(p_BF, rows * activation_.k);
  at::Tensor code_BF = at::empty_like(p_BF);
  for (std::int64_t b = 0; b < rows; b += slice) {
    const std::int64_t count = std::min(slice, rows - b);
    code_BF.narrow(0, b, count)
        .copy_(keep_largest(p_BF.narrow(0, b, count), count * activation_.k));
  }
  return code_BF;
}

std::int64_t Crosscoder::whole_slices(std::int64_t rows) const {
  if (activation_.kind != ActivationKind::BatchTopK || activation_.slice_rows <= 0) return rows;
  return std::max<std::int64_t>(1, rows / activation_.slice_rows) * activation_.slice_rows;
}

at::Tensor Crosscoder::decode(const at::Tensor& a_BF, std::int64_t k) const {
  return at::addmm(parameters_.decoder_bias_KD[k], a_BF, parameters_.decoder_KFD[k]);
}

at::Tensor Crosscoder::reconstruct(const at::Tensor& x_BKD) const {
  const at::Tensor p_BF = pre_activation(x_BKD), r_BKD = at::empty_like(x_BKD);
  for (std::int64_t k = 0; k < parameters_.num_heads(); ++k)
    r_BKD.select(1, k).copy_(decode(codes(p_BF, k), k));
  return r_BKD;
}

}  // namespace cresco::dictionaries
