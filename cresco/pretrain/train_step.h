// The gradients of a batch: forward, loss and backward of a language model.
#pragma once

#include "cresco/models/language_model.h"

#include <ATen/core/Tensor.h>

#include <functional>

namespace cresco::pretrain {

class GradientStep {
 public:
  // Products are of type `precision`: float32, bfloat16 or float16.
  GradientStep(const models::LanguageModel& model, at::ScalarType precision);

  // Adds `scale` times the gradients of the summed loss to the weights' .grad, which exist; the sum
  // of the loss over all targets, in nats. Ids are int64 (N, T + 1): inputs and, from the second
  // on, targets. `readout_done` is called when the readout's own gradient is complete, before those
  // of the layers.
  double add(const at::Tensor& ids_NT, double scale,
             const std::function<void()>& readout_done = {});
  // The same sum without gradients.
  double loss(const at::Tensor& ids_NT);

 private:
  const models::LanguageModel& model_;
  at::ScalarType precision_;
};

}  // namespace cresco::pretrain
