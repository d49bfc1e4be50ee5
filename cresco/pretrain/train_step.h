// The gradients of a batch: forward, loss and backward of a language model.
#pragma once

#include "cresco/models/language_model.h"
#include "cresco/models/readout_loss.h"
#include "cresco/optim/optimizer_config.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace cresco::pretrain {

// Copies of `initial` as a training changes them: float32, on the device, asking for gradients
// unless a rule of the optimizer freezes them.
std::vector<tensor::NamedTensor> trainable(const std::vector<tensor::NamedTensor>& initial,
                                           const optim::OptimizerConfig& optimizer,
                                           at::Device device);
std::vector<at::Tensor> without_frozen(const std::vector<tensor::NamedTensor>& weights);

// Seconds of the parts of a step, added up.
struct StepTimes {
  double forward = 0, readout = 0, backward = 0;
};

class GradientStep {
 public:
  // Products of the body are of type `precision`: float32, bfloat16 or float16; those of the
  // readout as ReadoutLoss says.
  GradientStep(const models::LanguageModel& model, at::ScalarType precision);

  // Adds `scale` times the gradients of the summed loss to the weights' .grad, which exist; the sum
  // of the loss over all targets, in nats. Ids are int64 (N, T + 1): inputs and, from the second
  // on, targets. `readout_done` is called when the readout's own gradient is complete, before those
  // of the layers.
  double add(const at::Tensor& ids_NT, double scale,
             const std::function<void()>& readout_done = {});
  // The same sum without gradients.
  double loss(const at::Tensor& ids_NT);

  // From now on the parts of add() are timed, into `times`, which has to live as long; a GPU is
  // waited for at the end of each.
  void time_into(StepTimes& times) { times_ = &times; }

 private:
  at::Tensor hidden(const at::Tensor& ids_NT) const;
  at::Tensor readout_input(const at::Tensor& hidden_MD) const;
  void lap(double StepTimes::*part);

  const models::LanguageModel& model_;
  at::ScalarType precision_;
  models::ReadoutLoss readout_;
  StepTimes* times_ = nullptr;
  double lap_started_ = 0;
};

}  // namespace cresco::pretrain
