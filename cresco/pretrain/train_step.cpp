#include "cresco/pretrain/train_step.h"

#include "cresco/base/progress.h"
#include "cresco/tensor/autocast.h"
#include "cresco/tensor/place.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace cresco::pretrain {
namespace {

// Shape suffix M: all targets of a batch.
at::Tensor targets_of(const at::Tensor& ids_NT) {
  // Of one target a window flatten() would be a view.
  return ids_NT.slice(1, 1).flatten().contiguous();
}

}  // namespace

std::vector<tensor::NamedTensor> trainable(const std::vector<tensor::NamedTensor>& initial,
                                           const optim::OptimizerConfig& optimizer,
                                           at::Device device) {
  std::vector<tensor::NamedTensor> weights;
  for (const auto& [name, t] : initial) {
    const at::Tensor own = t.to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    const bool frozen = optim::settings_of(optimizer, name, own).frozen;
    weights.emplace_back(name, own.contiguous().set_requires_grad(!frozen));
  }
  return weights;
}

std::vector<at::Tensor> without_frozen(const std::vector<tensor::NamedTensor>& weights) {
  std::vector<at::Tensor> trained;
  for (const auto& [name, weight] : weights)
    if (weight.requires_grad()) trained.push_back(weight);
  return trained;
}

GradientStep::GradientStep(const models::LanguageModel& model, at::ScalarType precision)
    : model_(model), precision_(precision), readout_(precision == at::kBFloat16) {}

at::Tensor GradientStep::hidden(const at::Tensor& ids_NT) const {
  const tensor::Autocast autocast(model_.device(), precision_);
  return model_.hidden(ids_NT.slice(1, 0, -1)).flatten(0, 1);
}

// On a GPU the readout's products are in the type of what it reads.
at::Tensor GradientStep::readout_input(const at::Tensor& hidden_MD) const {
  const bool rounds = hidden_MD.is_cuda() && precision_ != at::kFloat;
  return rounds ? hidden_MD.detach().to(precision_) : hidden_MD.detach();
}

void GradientStep::lap(double StepTimes::*part) {
  if (!times_) return;
  tensor::wait_for(model_.device());
  const double now = now_seconds();
  if (part) times_->*part += now - lap_started_;
  lap_started_ = now;
}

double GradientStep::add(const at::Tensor& ids_NT, double scale,
                         const std::function<void()>& readout_done) {
  lap(nullptr);
  const at::Tensor hidden_MD = hidden(ids_NT);
  lap(&StepTimes::forward);
  const at::Tensor input_MD = readout_input(hidden_MD);
  at::Tensor gradient_MD = at::empty_like(input_MD);
  const at::Tensor& weight_VD = model_.readout_weight();
  const double loss = readout_.add(input_MD, weight_VD, targets_of(ids_NT), scale, gradient_MD,
                                   weight_VD.requires_grad() ? weight_VD.grad() : at::Tensor());
  if (readout_done) readout_done();
  lap(&StepTimes::readout);
  if (hidden_MD.requires_grad())  // not when all below the readout is frozen
    torch::autograd::backward({hidden_MD}, {gradient_MD.to(hidden_MD.scalar_type())});
  lap(&StepTimes::backward);
  return loss;
}

double GradientStep::loss(const at::Tensor& ids_NT) {
  const torch::autograd::AutoGradMode no_grad(false);
  return readout_.loss(readout_input(hidden(ids_NT)), model_.readout_weight(), targets_of(ids_NT));
}

}  // namespace cresco::pretrain
