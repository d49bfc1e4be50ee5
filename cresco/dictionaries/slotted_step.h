// What the steps by entries and by whole products share: parameters and moments in the layout that
// both compute in, and their states, which are the same files.
#pragma once

#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/kernels/crosscoder.h"
#include "cresco/optim/moments.h"

#include <memory>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// A parameter in the layout of the step, with its moments or, when gradients are written out, its
// gradient.
struct Slot {
  const char* name;
  at::Tensor value, exp_avg, exp_avg_sq, gradient;
};

// Adds the time since the last call to where it went, once the device has done it.
class StepStopwatch {
 public:
  explicit StepStopwatch(at::Device device);
  void lap(double& spent);

 private:
  at::Device device_;
  double last_;
};

// Rows of whole vectors: the rest of a row are columns of zeros, which stay zeros.
inline std::int64_t padded_to_vectors(std::int64_t width, std::size_t number_bytes) {
  const auto lanes = kernels::kVectorBytes / static_cast<std::int64_t>(number_bytes);
  return (width + lanes - 1) / lanes * lanes;
}

class SlottedStep : public CrosscoderStep {
 public:
  // Copies are on the CPU, wherever the step computes.
  CrosscoderParameters parameters() const override;
  Activation activation() const override { return activation_; }
  std::vector<tensor::NamedTensor> state() const override;
  void load_state(const formats::SafetensorsFile& file) override;
  std::vector<tensor::NamedTensor> portable_state() const override;
  void load_portable_state(const formats::SafetensorsFile& file) override;

 protected:
  SlottedStep(const CrosscoderConfig& config, const Activation& activation,
              const CrosscoderParameters& start, at::Device device);

  // After the parameters were replaced: what is derived from them.
  virtual void refresh_derived() = 0;

  bool gated() const { return activation_.kind == ActivationKind::JumpRelu; }
  bool uses_auxk() const { return config_.auxk_coefficient > 0; }
  std::int64_t heads() const { return decoder_.value.size(0); }
  std::int64_t features() const { return decoder_.value.size(1); }
  std::int64_t padded_width() const { return decoder_.value.size(2); }

  at::Tensor zeros(at::IntArrayRef shape, at::ScalarType dtype) const;
  at::Tensor zeros(at::IntArrayRef shape) const { return zeros(shape, dtype_); }
  void make_gradient_buffers();
  void write_small_gradients();  // those below, to where gradients are written out
  // Of the next update: of biases and thresholds, and of the two weights, which decay with adamw.
  kernels::AdamRates adam_rates(double lr) const;
  kernels::AdamRates weight_rates(double lr) const;
  // Parameters, moments or gradients in the shapes of released files, and back.
  CrosscoderParameters released(at::Tensor Slot::*member) const;
  void take_released(const CrosscoderParameters& from, at::Tensor Slot::*member);

  CrosscoderConfig config_;
  Activation activation_;
  std::int64_t width_;  // as it is, without padding
  at::ScalarType dtype_;
  at::Device device_;

  // encoder (F, K d), bias (F), decoder (K, F, d), decoder bias (K, d), log threshold (F)
  Slot encoder_{"encoder_FKD"}, bias_{"bias_F"}, decoder_{"decoder_KFD"},
      decoder_bias_{"decoder_bias_KD"}, log_threshold_{"log_threshold_F"};
  // Heads start with biases of their own but all get the same gradient: one change for all of them.
  at::Tensor first_bias_KF_;
  at::Tensor bias_gradient_F_, decoder_bias_gradient_KD_, threshold_gradient_F_;
  at::Tensor num_updates_, last_fired_F_;  // the first is on the CPU
  std::unique_ptr<optim::MomentOptimizer> sparse_adam_;
};

}  // namespace cresco::dictionaries
