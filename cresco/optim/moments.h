// What Adam and SparseAdam share: two moments and a count of updates per tensor.
#pragma once

#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace cresco::optim {

struct MomentDecay {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

class MomentOptimizer {
 public:
  // `parameters` (contiguous, float or double) are updated in place.
  MomentOptimizer(MomentDecay decay, std::vector<tensor::NamedTensor> parameters);
  virtual ~MomentOptimizer() = default;

  // One update of every parameter; gradients and rates stand in the order of the parameters.
  void step(const std::vector<at::Tensor>& gradients, const std::vector<double>& lrs);

  // "<parameter>.exp_avg", ".exp_avg_sq" and ".num_updates", for the resume state; load() copies
  // them back.
  std::vector<tensor::NamedTensor> state() const;
  void load(const formats::SafetensorsFile& file);

 protected:
  struct Slot {
    std::string name;
    at::Tensor parameter, exp_avg, exp_avg_sq;
    std::int64_t num_updates = 0;
  };

 private:
  virtual void update(Slot& slot, const at::Tensor& gradient, double lr) = 0;

 protected:
  MomentDecay decay_;

 private:
  std::vector<Slot> slots_;
};

// "adam" or "sparse_adam"; UsageError otherwise.
std::unique_ptr<MomentOptimizer> make_moment_optimizer(const std::string& name, MomentDecay decay,
                                                       std::vector<tensor::NamedTensor> parameters);

}  // namespace cresco::optim
