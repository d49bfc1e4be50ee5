#include "cresco/pretrain/train_step.h"

#include "cresco/tensor/autocast.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace cresco::pretrain {
namespace {

at::Tensor summed_loss(const models::LanguageModel& model, const at::Tensor& ids_NT) {
  const at::Tensor targets = ids_NT.slice(1, 1);
  return models::cross_entropy(model.logits(ids_NT.slice(1, 0, -1)), targets) *
         static_cast<double>(targets.numel());
}

}  // namespace

GradientStep::GradientStep(const models::LanguageModel& model, at::ScalarType precision)
    : model_(model), precision_(precision) {}

double GradientStep::add(const at::Tensor& ids_NT, double scale, const std::function<void()>&) {
  at::Tensor loss;
  {
    const tensor::Autocast autocast(model_.device(), precision_);
    loss = summed_loss(model_, ids_NT);
  }
  torch::autograd::backward({loss * scale}, {});
  return loss.item<double>();
}

double GradientStep::loss(const at::Tensor& ids_NT) {
  const torch::autograd::AutoGradMode no_grad(false);
  const tensor::Autocast autocast(model_.device(), precision_);
  return summed_loss(model_, ids_NT).item<double>();
}

}  // namespace cresco::pretrain
