#include "cresco/dictionaries/matrix_sae_fit.h"

#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/dictionaries/training_folder.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <span>

namespace cresco::dictionaries {
namespace {

using torch::autograd::AutoGradMode;

// A code below this has not fired as far as AuxK is concerned.
constexpr double kSilent = 1e-8;

at::Tensor shuffled_rows(std::int64_t num_rows, std::uint64_t seed, std::string_view purpose) {
  require(num_rows < std::int64_t{1} << 32, "{} rows are more than an order of rows can number",
          num_rows);
  const auto order = permutation(static_cast<std::uint32_t>(num_rows), RandomStream(seed, purpose));
  at::Tensor rows = at::empty({num_rows}, at::kLong);
  std::copy(order.begin(), order.end(), rows.mutable_data_ptr<std::int64_t>());
  return rows;
}

// Rows in their own order, without those in `left_out`, and those.
std::pair<at::Tensor, at::Tensor> split(const at::Tensor& x_VD, const at::Tensor& left_out) {
  const at::Tensor is_out_V = at::zeros({x_VD.size(0)}, at::kBool).index_fill_(0, left_out, 1);
  const auto rows = [&](const at::Tensor& chosen_V) {
    return x_VD.index_select(0, chosen_V.nonzero().squeeze(1));
  };
  return {rows(is_out_V.logical_not()), rows(is_out_V)};
}

optim::OptimizerConfig optimizer_config(const MatrixSaeConfig& c) {
  optim::OptimizerConfig out{
      .lr = c.lr, .betas = {0.9, 0.999}, .weight_decay = 0, .grad_clip = c.grad_clip};
  out.rules.push_back({.match = "*", .weight_decay = c.weight_decay});
  return out;
}

double squared_error(const MatrixSae& sae, const at::Tensor& x_VD) {
  return (sae.reconstruct(x_VD) - x_VD).square_().sum(1, false, at::kDouble).mean().item<double>();
}

}  // namespace

double steered_log_lambda(double log_lambda, double l0, const MatrixSaeConfig& c) {
  return std::clamp(log_lambda + c.lambda_rate * (l0 - c.target_l0) / std::max(c.target_l0, 1.0),
                    std::log(c.min_lambda), std::log(c.max_lambda));
}

double warmup_factor(std::int64_t epoch, const MatrixSaeConfig& c) {
  if (epoch >= c.lr_warmup) return 1;
  return c.lr_start +
         (1 - c.lr_start) * static_cast<double>(epoch) / static_cast<double>(c.lr_warmup);
}

MatrixSaeQuality measure(const MatrixSae& sae, const at::Tensor& x_VD) {
  const AutoGradMode no_grad(false);
  const at::Tensor code_VF = sae.codes(sae.pre_activation(x_VD));
  const at::Tensor open_VF = code_VF.gt(0), count_V = open_VF.sum(1).to(at::kDouble);
  const double energy = x_VD.square().sum(1, false, at::kDouble).mean().item<double>();
  MatrixSaeQuality q;
  q.mse = (sae.decode(code_VF) - x_VD).square_().sum(1, false, at::kDouble).mean().item<double>();
  q.fve = energy > 0 ? 1 - q.mse / energy : 0;
  q.l0 = count_V.mean().item<double>();
  q.l0_std = count_V.size(0) > 1 ? count_V.std().item<double>() : 0;
  q.dead_features = open_VF.any(0).logical_not_().sum().item<std::int64_t>();
  q.dead_pct = 100 * static_cast<double>(q.dead_features) / static_cast<double>(code_VF.size(1));
  return q;
}

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::Patience:
      return "patience";
    case StopReason::NotFinite:
      return "not_finite";
    case StopReason::None:
      return "";
  }
  return "";
}

MatrixSaeFit::MatrixSaeFit(const MatrixSaeConfig& config, std::uint64_t seed,
                           const at::Tensor& x_VD)
    : config_(resolved(config, x_VD.size(1))),
      seed_(seed),
      train_VD_(x_VD),
      sae_(config_, initial_matrix_sae(config_, seed, x_VD.size(1))),
      dead_F_(at::zeros({config_.d_sae}, at::kBool)),
      log_lambda_(std::log(config_.init_lambda)) {
  if (config_.patience > 0) {
    const std::int64_t V = x_VD.size(0);
    const auto count = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(config_.val_fraction * static_cast<double>(V)));
    require(count < V, "{} rows are too few to hold {} of them out", V, count);
    std::tie(train_VD_, held_out_VD_) =
        split(x_VD, shuffled_rows(V, seed, "holdout").narrow(0, 0, count));
  }
  for (auto& [name, p] : sae_.parameters().named()) {
    p.mutable_grad() = at::zeros_like(p);
    parameters_.push_back(p);
    kept_.push_back(p.detach().clone());
  }
  optimizer_ = optim::make_optimizer(optimizer_config(config_), sae_.parameters().named());
}

std::optional<EpochTerms> MatrixSaeFit::take_epoch() {
  EpochTerms terms;
  terms.val_mse = look_at_held_out_rows();
  if (stopped_ != StopReason::None) return std::nullopt;
  resample();

  const at::Tensor z_BF = sae_.pre_activation(noisy_rows());
  if (sae_.kind().has_auxk() && epoch_ % config_.dead_refresh == 0) {
    const AutoGradMode no_grad(false);
    dead_F_ = sae_.codes(z_BF).abs().gt(kSilent).any(0).logical_not();
  }
  const double warm =
      config_.lambda_warmup > 0
          ? std::min(1.0, static_cast<double>(epoch_) / static_cast<double>(config_.lambda_warmup))
          : 1.0;
  terms.lambda = sae_.kind().has_penalty() ? std::exp(log_lambda_) * warm : 0;
  const MatrixSae::Loss loss = sae_.loss(z_BF, train_VD_, terms.lambda, dead_F_);
  terms.loss = loss.loss.item<double>();
  if (!std::isfinite(terms.loss)) {
    stopped_ = StopReason::NotFinite;
    return std::nullopt;
  }
  if (config_.patience == 0) keep_parameters();
  terms.recon = loss.recon.item<double>();
  terms.aux = loss.aux.item<double>();
  terms.l0 = static_cast<double>(loss.code_BF.gt(0).sum().item<std::int64_t>()) /
             static_cast<double>(train_VD_.size(0));

  for (at::Tensor& p : parameters_) p.mutable_grad().zero_();
  torch::autograd::backward({loss.loss}, {});
  const double factor = warmup_factor(epoch_, config_);
  terms.lr = config_.lr * factor;
  terms.grad_norm = optimizer_->step(factor).grad_norm;
  if (!std::isfinite(terms.grad_norm)) {  // nothing was changed
    stopped_ = StopReason::NotFinite;
    return std::nullopt;
  }
  sae_.normalise_decoder();
  if (sae_.kind().has_penalty() && epoch_ >= config_.lambda_warmup)
    log_lambda_ = steered_log_lambda(log_lambda_, terms.l0, config_);
  ++epoch_;
  return terms;
}

std::optional<double> MatrixSaeFit::look_at_held_out_rows() {
  if (config_.patience == 0) return std::nullopt;
  if (epoch_ % config_.val_every != 0 && epoch_ != config_.n_epochs) return std::nullopt;
  const AutoGradMode no_grad(false);
  const double error = squared_error(sae_, held_out_VD_);
  if (error < best_val_) {
    best_val_ = error;
    best_epoch_ = epoch_;
    keep_parameters();
  } else if (epoch_ - best_epoch_ >= config_.patience) {
    stopped_ = StopReason::Patience;
  }
  return error;
}

void MatrixSaeFit::keep_parameters() {
  const AutoGradMode no_grad(false);
  for (std::size_t i = 0; i < kept_.size(); ++i) kept_[i].copy_(parameters_[i]);
  kept_epoch_ = epoch_;
}

void MatrixSaeFit::finish() {
  const AutoGradMode no_grad(false);
  if (stopped_ == StopReason::None) {
    look_at_held_out_rows();
    stopped_ = StopReason::None;  // it had come to its end anyway
    if (config_.patience == 0 && !std::isfinite(squared_error(sae_, train_VD_)))
      stopped_ = StopReason::NotFinite;
  }
  if (config_.patience == 0 && stopped_ != StopReason::NotFinite) return;
  require(kept_epoch_ >= 0,
          "epoch {}: the loss is not finite, and there was none before that was: is the matrix "
          "far from unit size, or lr too high?",
          epoch_);
  for (std::size_t i = 0; i < kept_.size(); ++i) parameters_[i].copy_(kept_[i]);
}

at::Tensor MatrixSaeFit::noisy_rows() const {
  if (config_.noise_std == 0) return train_VD_;
  at::Tensor noise_VD = at::empty_like(train_VD_);
  RandomStream(seed_, "noise", static_cast<std::uint64_t>(epoch_))
      .fill_normal({noise_VD.mutable_data_ptr<float>(), static_cast<std::size_t>(noise_VD.numel())},
                   0, static_cast<float>(config_.noise_std));
  return noise_VD.add_(train_VD_);
}

void MatrixSaeFit::resample() {
  if (config_.resample_every == 0 || epoch_ == 0 || epoch_ % config_.resample_every != 0 ||
      epoch_ >= config_.n_epochs - config_.resample_margin)
    return;
  const AutoGradMode no_grad(false);
  const at::Tensor code_VF = sae_.codes(sae_.pre_activation(train_VD_));
  const at::Tensor dead = code_VF.gt(0).any(0).logical_not_().nonzero().squeeze(1);
  if (dead.size(0) == 0) return;
  const at::Tensor residual_VD = train_VD_ - sae_.decode(code_VF);
  const at::Tensor rows =
      draw_rows(residual_VD.square().sum(1, false, at::kDouble), dead.size(0), seed_, epoch_);
  if (rows.size(0) == 0) return;  // nothing is left to explain
  const at::Tensor chosen_RD = residual_VD.index_select(0, rows);
  const at::Tensor direction_RD = chosen_RD / at::linalg_vector_norm(chosen_RD, 2, {1}, true);

  const MatrixSaeParameters& p = sae_.parameters();
  p.decoder_FD.index_copy_(0, dead, direction_RD);
  if (p.encoder_DF.defined()) p.encoder_DF.index_copy_(1, dead, direction_RD.t());
  for (const at::Tensor& zeroed :
       {p.encoder_bias_F, p.gate_bias_F, p.log_magnitude_F, p.magnitude_bias_F})
    if (zeroed.defined()) zeroed.index_fill_(0, dead, 0);
  if (p.log_threshold_F.defined())
    p.log_threshold_F.index_fill_(0, dead, std::log(config_.init_threshold));
}

at::Tensor draw_rows(const at::Tensor& weight_V, std::int64_t count, std::uint64_t seed,
                     std::int64_t epoch) {
  RandomStream random(seed, "resample", static_cast<std::uint64_t>(epoch));
  const auto uniforms = [&](std::int64_t n) {  // in (0, 1]
    at::Tensor out = at::empty({n}, at::kDouble);
    for (double& u : std::span(out.mutable_data_ptr<double>(), static_cast<std::size_t>(n)))
      u = 1 - random.uniform();
    return out;
  };
  const std::int64_t available = weight_V.gt(0).sum().item<std::int64_t>();
  if (available == 0) return at::empty({0}, at::kLong);
  // Without replacement: exponential waiting times of these rates, and the first `count` to come.
  if (count <= available)
    return std::get<1>(
        (-uniforms(weight_V.size(0)).log_() / weight_V).topk(count, 0, /*largest=*/false));
  const at::Tensor cumulative_V = weight_V.cumsum(0);
  return at::searchsorted(cumulative_V, uniforms(count) * cumulative_V[-1]);
}

std::vector<tensor::NamedTensor> MatrixSaeFit::kept() const {
  std::vector<tensor::NamedTensor> all;
  const auto names = sae_.parameters().named();
  for (std::size_t i = 0; i < kept_.size(); ++i)
    all.emplace_back("kept." + names[i].first, kept_[i]);
  return all;
}

std::vector<tensor::NamedTensor> MatrixSaeFit::state() const {
  std::vector<tensor::NamedTensor> all = kept();
  for (const auto& [name, p] : sae_.parameters().named()) all.emplace_back(name, p.detach());
  for (const auto& moment : optimizer_->state()) all.push_back(moment);
  all.emplace_back("dead", dead_F_);
  return all;
}

Json MatrixSaeFit::state_numbers() const {
  Json numbers{{"kept_epoch", kept_epoch_}, {"log_lambda", log_lambda_}};
  if (std::isfinite(best_val_)) {
    numbers["best_epoch"] = best_epoch_;
    numbers["best_val_mse"] = best_val_;
  }
  return numbers;
}

void MatrixSaeFit::load(const formats::SafetensorsFile& file, const Json& numbers) {
  const std::string where = file.path().string();
  copy_stored(file, state());
  epoch_ = get_int(numbers, "step", where);
  optimizer_->load(file, {{"num_steps", epoch_}}, where);
  kept_epoch_ = get_int(numbers, "kept_epoch", where);
  log_lambda_ = get_double(numbers, "log_lambda", where);
  if (numbers.contains("best_val_mse")) {
    best_val_ = get_double(numbers, "best_val_mse", where);
    best_epoch_ = get_int(numbers, "best_epoch", where);
  }
}

std::vector<FoldQuality> cross_validate(const MatrixSaeConfig& config, std::uint64_t seed,
                                        const at::Tensor& x_VD, std::int64_t num_folds,
                                        Progress& progress,
                                        const std::function<bool()>& stop_requested,
                                        const std::string& resume_command) {
  const std::int64_t V = x_VD.size(0);
  require_usage(num_folds >= 2 && num_folds <= V,
                "{} folds of {} rows: expected from 2 to the number of rows", num_folds, V);
  const at::Tensor order = shuffled_rows(V, seed, "folds");
  std::vector<FoldQuality> folds;
  for (std::int64_t fold = 0; fold < num_folds; ++fold) {
    const std::int64_t begin = fold * V / num_folds, end = (fold + 1) * V / num_folds;
    const auto [train_VD, held_out_VD] = split(x_VD, order.narrow(0, begin, end - begin));
    MatrixSaeFit fit(config, seed, train_VD);
    progress.begin(fmt::format("fold {} of {}", fold + 1, num_folds), config.n_epochs, "epoch");
    while (!fit.done()) {
      if (stop_requested())
        throw Interrupted(
            fmt::format("stopped in fold {} of {}: the folds will begin anew; this goes on: {}",
                        fold + 1, num_folds, resume_command));
      if (const auto terms = fit.take_epoch())
        progress.update(fit.epoch(),
                        fmt::format("loss {:.4g} | l0 {:.1f}", terms->loss, terms->l0));
    }
    progress.end();
    fit.finish();
    folds.push_back({.epochs = fit.epoch(),
                     .stopped = fit.stopped(),
                     .train = measure(fit.sae(), train_VD),
                     .held_out = measure(fit.sae(), held_out_VD)});
  }
  return folds;
}

}  // namespace cresco::dictionaries
