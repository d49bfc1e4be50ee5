#include "cresco/dictionaries/slotted_step.h"

#include "cresco/base/progress.h"
#include "cresco/dictionaries/training_folder.h"
#include "cresco/tensor/large_pages.h"
#include "cresco/tensor/place.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace cresco::dictionaries {

StepStopwatch::StepStopwatch(at::Device device) : device_(device), last_(now_seconds()) {}

void StepStopwatch::lap(double& spent) {
  tensor::wait_for(device_);
  const double now = now_seconds();
  spent += now - last_;
  last_ = now;
}

SlottedStep::SlottedStep(const CrosscoderConfig& config, const Activation& activation,
                         const CrosscoderParameters& start, at::Device device)
    : config_(config),
      activation_(activation),
      width_(start.width()),
      dtype_(start.decoder_KFD.scalar_type()),
      device_(device) {
  const auto K = start.num_heads(), F = start.num_features(),
             D = padded_to_vectors(width_, c10::elementSize(dtype_));
  encoder_.value = zeros({F, K * D});
  decoder_.value = zeros({K, F, D});
  decoder_bias_.value = zeros({K, D});
  bias_.value = zeros({F});
  first_bias_KF_ = start.encoder_bias_KF.to(device_, /*non_blocking=*/false, /*copy=*/true);
  log_threshold_.value = zeros({F});
  bias_gradient_F_ = zeros({F});
  decoder_bias_gradient_KD_ = zeros({K, D});
  threshold_gradient_F_ = zeros({F});
  take_released(start, &Slot::value);
  num_updates_ = at::zeros({1}, at::kLong);
  last_fired_F_ = zeros({F}, at::kLong).fill_(std::numeric_limits<std::int64_t>::min() / 2);
  if (config_.optimizer == "sparse_adam") {
    make_gradient_buffers();
    std::vector<tensor::NamedTensor> all;
    for (const Slot* slot : {&encoder_, &bias_, &decoder_, &decoder_bias_, &log_threshold_})
      all.emplace_back(slot->name, slot->value);
    sparse_adam_ = optim::make_moment_optimizer("sparse_adam", {}, std::move(all));
  } else {
    for (Slot* slot : {&encoder_, &bias_, &decoder_, &decoder_bias_, &log_threshold_}) {
      slot->exp_avg = zeros(slot->value.sizes());
      slot->exp_avg_sq = zeros(slot->value.sizes());
    }
  }
}

at::Tensor SlottedStep::zeros(at::IntArrayRef shape, at::ScalarType dtype) const {
  if (device_.is_cpu()) return tensor::large_zeros(shape, dtype);
  return at::zeros(shape, at::TensorOptions(dtype).device(device_));
}

kernels::AdamRates SlottedStep::adam_rates(double lr) const {
  kernels::AdamRates rates;
  const double t = static_cast<double>(num_updates_.const_data_ptr<std::int64_t>()[0] + 1);
  rates.step_size = lr / (1 - std::pow(rates.beta1, t));
  rates.root_correction = std::sqrt(1 - std::pow(rates.beta2, t));
  return rates;
}

kernels::AdamRates SlottedStep::weight_rates(double lr) const {
  kernels::AdamRates rates = adam_rates(lr);
  rates.decay = 1 - lr * config_.weight_decay;
  return rates;
}

void SlottedStep::make_gradient_buffers() {
  for (Slot* slot : {&encoder_, &bias_, &decoder_, &decoder_bias_, &log_threshold_})
    if (!slot->gradient.defined()) slot->gradient = zeros(slot->value.sizes());
}

void SlottedStep::write_small_gradients() {
  bias_.gradient.copy_(bias_gradient_F_);
  decoder_bias_.gradient.copy_(decoder_bias_gradient_KD_);
  log_threshold_.gradient.copy_(threshold_gradient_F_);
}

CrosscoderParameters SlottedStep::released(at::Tensor Slot::*member) const {
  const auto K = heads(), F = features(), D = padded_width();
  // To the CPU first: a GPU may have no room for another copy. One after the other, so that what
  // only passes is gone before the next.
  const auto here = [&](const Slot& slot) { return (slot.*member).cpu(); };
  CrosscoderParameters p;
  p.encoder_KDF =
      here(encoder_).view({F, K, D}).narrow(2, 0, width_).permute({1, 2, 0}).contiguous();
  p.encoder_bias_KF = here(bias_).expand({K, F}).clone();
  p.decoder_KFD = here(decoder_).narrow(2, 0, width_).clone(at::MemoryFormat::Contiguous);
  p.decoder_bias_KD = here(decoder_bias_).narrow(1, 0, width_).clone(at::MemoryFormat::Contiguous);
  if (gated()) p.log_threshold_F = here(log_threshold_).clone();
  return p;
}

CrosscoderParameters SlottedStep::parameters() const {
  CrosscoderParameters p = released(&Slot::value);
  p.encoder_bias_KF.add_(first_bias_KF_.cpu());
  return p;
}

std::vector<tensor::NamedTensor> SlottedStep::state() const {
  std::vector<tensor::NamedTensor> all;
  for (const Slot* slot : {&encoder_, &bias_, &decoder_, &decoder_bias_, &log_threshold_}) {
    all.emplace_back(slot->name, slot->value);
    if (sparse_adam_) continue;
    all.emplace_back(std::string(slot->name) + ".exp_avg", slot->exp_avg);
    all.emplace_back(std::string(slot->name) + ".exp_avg_sq", slot->exp_avg_sq);
  }
  if (sparse_adam_)
    for (auto& moment : sparse_adam_->state()) all.push_back(std::move(moment));
  all.emplace_back("first_bias_KF", first_bias_KF_);
  all.emplace_back("num_updates", num_updates_);
  if (uses_auxk()) all.emplace_back("last_fired_F", last_fired_F_);
  return all;
}

void SlottedStep::load_state(const formats::SafetensorsFile& file) {
  std::vector<tensor::NamedTensor> own;
  for (auto& named : state())
    if (!named.first.ends_with(".num_updates")) own.push_back(std::move(named));
  copy_stored(file, own);
  if (sparse_adam_) sparse_adam_->load(file);
  refresh_derived();
}

// The other way: released shapes into the layout of the step.
void SlottedStep::take_released(const CrosscoderParameters& from, at::Tensor Slot::*member) {
  const auto K = heads(), F = features(), D = padded_width();
  (encoder_.*member)
      .view({F, K, D})
      .narrow(2, 0, width_)
      .copy_(from.encoder_KDF.permute({2, 0, 1}));
  (decoder_.*member).narrow(2, 0, width_).copy_(from.decoder_KFD);
  (decoder_bias_.*member).narrow(1, 0, width_).copy_(from.decoder_bias_KD);
  if (gated()) (log_threshold_.*member).copy_(from.log_threshold_F);
}

std::vector<tensor::NamedTensor> SlottedStep::portable_state() const {
  TORCH_INTERNAL_ASSERT(!sparse_adam_);
  std::vector<tensor::NamedTensor> all = parameters().named();
  for (const auto& [suffix, member] :
       {std::pair{".exp_avg", &Slot::exp_avg}, std::pair{".exp_avg_sq", &Slot::exp_avg_sq}})
    for (auto& [name, moment] : released(member).named()) all.emplace_back(name + suffix, moment);
  all.emplace_back("num_updates", num_updates_);
  return all;
}

void SlottedStep::load_portable_state(const formats::SafetensorsFile& file) {
  TORCH_INTERNAL_ASSERT(!sparse_adam_);
  const CrosscoderParameters like = parameters();
  const auto read = [&](const std::string& suffix) {
    CrosscoderParameters p = like.empty_like();
    std::vector<tensor::NamedTensor> named;
    for (auto& [name, t] : p.named()) named.emplace_back(name + suffix, t);
    copy_stored(file, named);
    return p;
  };
  const CrosscoderParameters values = read("");
  take_released(values, &Slot::value);
  first_bias_KF_.copy_(values.encoder_bias_KF);
  bias_.value.zero_();
  for (const auto& [suffix, member] :
       {std::pair{".exp_avg", &Slot::exp_avg}, std::pair{".exp_avg_sq", &Slot::exp_avg_sq}}) {
    const CrosscoderParameters moments = read(suffix);
    take_released(moments, member);
    (bias_.*member).copy_(moments.encoder_bias_KF[0]);
  }
  num_updates_.copy_(tensor::to_tensor(file.tensor("num_updates")).reshape({1}));
  refresh_derived();
}

}  // namespace cresco::dictionaries
