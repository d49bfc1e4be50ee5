// The step of kinds whose gradients come from autograd (stacked_step.h): Gated and SharedJumpRelu.
#include "cresco/dictionaries/batch_noise.h"
#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/dictionaries/stacked_step.h"
#include "cresco/dictionaries/training_folder.h"
#include "cresco/dictionaries/whole_step.h"
#include "cresco/optim/moments.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

class AutogradStep final : public CrosscoderStep {
 public:
  AutogradStep(const CrosscoderConfig& config, const Activation& activation,
               const CrosscoderParameters& start)
      : activation_(activation),
        settings_{.l1_coefficient = 1,  // a step's rates have the coefficient in effect
                  .frequency_scale = config.frequency_scale,
                  .tanh_stretch_coefficient = config.tanh_stretch_coefficient,
                  .bandwidth = config.bandwidth,
                  .gated_l1_coefficient = 1},
        gated_weight_(
            config.l1_coefficient > 0 ? config.gated_l1_coefficient / config.l1_coefficient : 0) {
    parameters_ = start.empty_like();
    const auto from = start.named(), to = parameters_.named();
    for (std::size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
    optimizer_ = optim::make_moment_optimizer(config.optimizer, {}, parameters_.named());
  }

  void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
            const BatchNoise& noise) override {
    const at::Tensor index = at::from_blob(const_cast<std::int64_t*>(rows.data()),
                                           {static_cast<std::int64_t>(rows.size())}, at::kLong);
    x_BKD_ = x_VKD.index_select(0, index).to(at::kFloat).contiguous();
    if (noise.deviation <= 0) return;
    float* const x = x_BKD_.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < x_BKD_.size(0) * x_BKD_.size(1); ++i)
      add_noise(noise, i, x + i * x_BKD_.size(2), x_BKD_.size(2));
  }

  LossTerms update(const StepRates& rates) override {
    CrosscoderParameters gradients;
    const LossTerms terms = this->gradients(rates, gradients);
    if (!std::isfinite(terms.loss)) return terms;
    std::vector<at::Tensor> list;
    std::vector<double> lrs;
    for (const auto& [name, gradient] : gradients.named()) {
      list.push_back(gradient);
      lrs.push_back(name.find("threshold") == std::string::npos ? rates.lr : rates.threshold_lr);
    }
    optimizer_->step(list, lrs);
    return terms;
  }

  LossTerms gradients(const StepRates& rates, CrosscoderParameters& out) override {
    out = parameters_.empty_like();
    StackedSettings settings = settings_;
    const bool gated = activation_.kind == ActivationKind::Gated;
    settings.l1_coefficient = rates.l1_coefficient;
    settings.gated_l1_coefficient = rates.l1_coefficient * gated_weight_;
    LossTerms terms =
        stacked_loss_and_gradients(activation_, settings, parameters_, x_BKD_, 1, out);
    if (gated) terms.l_aux = terms.loss - terms.l_rec - settings.gated_l1_coefficient * terms.l_s;
    const Crosscoder crosscoder(parameters_, activation_);
    const at::Tensor fired_F = crosscoder.codes(crosscoder.pre_activation(x_BKD_), 0).gt(0).any(0);
    terms.num_silent = fired_F.logical_not().sum().item<std::int64_t>();
    return terms;
  }

  double batch_deviation() const override {
    const at::Tensor x64 = x_BKD_.to(at::kDouble);
    return (x64 - x64.mean()).square_().sum().item<double>();
  }
  CrosscoderParameters parameters() const override {
    CrosscoderParameters copy = parameters_.empty_like();
    const auto from = parameters_.named(), to = copy.named();
    for (std::size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
    return copy;
  }
  Activation activation() const override { return activation_; }

  std::vector<tensor::NamedTensor> state() const override {
    auto all = parameters_.named();
    for (auto& moment : optimizer_->state()) all.push_back(std::move(moment));
    return all;
  }
  void load_state(const formats::SafetensorsFile& file) override {
    copy_stored(file, parameters_.named());
    optimizer_->load(file);
  }
  std::vector<tensor::NamedTensor> portable_state() const override { return state(); }
  void load_portable_state(const formats::SafetensorsFile& file) override { load_state(file); }

 private:
  Activation activation_;
  StackedSettings settings_;
  double gated_weight_;  // of gated's own coefficient, as a share of the scheduled one
  CrosscoderParameters parameters_;
  std::unique_ptr<optim::MomentOptimizer> optimizer_;
  at::Tensor x_BKD_;
};

}  // namespace

std::unique_ptr<CrosscoderStep> make_step(const CrosscoderConfig& config,
                                          const Activation& activation,
                                          const CrosscoderParameters& start, std::int64_t max_rows,
                                          HeadShare share) {
  const at::Device device = start.decoder_KFD.device();
  check_device(device, config, activation);
  if (!device.is_cpu())
    return make_whole_step(config, activation, start, max_rows, kEncoderTileNumbers, share);
  if (activation.kind == ActivationKind::Gated || activation.kind == ActivationKind::SharedJumpRelu)
    return std::make_unique<AutogradStep>(config, activation, start);
  return make_sparse_step(config, activation, start, max_rows, kDenseShare, share);
}

}  // namespace cresco::dictionaries
