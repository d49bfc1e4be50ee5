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
      : config_(config), activation_(activation) {
    parameters_ = start.empty_like();
    const auto from = start.named(), to = parameters_.named();
    for (std::size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
    // AdamW's decay comes before its update, in update().
    optimizer_ = optim::make_moment_optimizer(
        config.optimizer == "adamw" ? "adam" : config.optimizer, {}, parameters_.named());
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
    for (const at::Tensor& weight : {parameters_.encoder_KDF, parameters_.decoder_KFD})
      if (config_.weight_decay > 0) weight.mul_(1 - rates.lr * config_.weight_decay);
    optimizer_->step(list, lrs);
    return terms;
  }

  LossTerms gradients(const StepRates& rates, CrosscoderParameters& out) override {
    out = parameters_.empty_like();
    LossTerms terms =
        stacked_loss_and_gradients(activation_,
                                   {.coefficient = rates.l1_coefficient,
                                    .frequency_scale = config_.frequency_scale,
                                    .tanh_stretch_coefficient = config_.tanh_stretch_coefficient,
                                    .bandwidth = config_.bandwidth},
                                   parameters_, x_BKD_, out);
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
  CrosscoderConfig config_;
  Activation activation_;
  CrosscoderParameters parameters_;
  std::unique_ptr<optim::MomentOptimizer> optimizer_;
  at::Tensor x_BKD_;
};

}  // namespace

std::unique_ptr<CrosscoderStep> make_step(const CrosscoderConfig& config,
                                          const Activation& activation,
                                          const CrosscoderParameters& start, std::int64_t max_rows,
                                          HeadShare share, at::Device device) {
  check_device(device, config, activation);
  if (!device.is_cpu())
    return make_whole_step(config, activation, start, max_rows, kEncoderTileNumbers, share, device);
  if (activation.kind == ActivationKind::Gated || activation.kind == ActivationKind::SharedJumpRelu)
    return std::make_unique<AutogradStep>(config, activation, start);
  return make_sparse_step(config, activation, start, max_rows, kDenseShare, share);
}

}  // namespace cresco::dictionaries
