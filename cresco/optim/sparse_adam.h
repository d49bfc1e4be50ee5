// Adam that moves only what has a gradient. For each tensor: when every number of g is zero,
// nothing happens and t stays; else t <- t + 1, both moments decay everywhere, and
//   where g != 0:  m <- m + (1 - b1) g;  v <- v + (1 - b2) g^2
//                  p <- p - lr sqrt(1 - b2^t)/(1 - b1^t) * m / (sqrt(v) + eps)
// t belongs to the tensor, not to the number: what wakes after a long silence takes a step of about
// (1 - b1)/sqrt(1 - b2) times lr. eps stands beside the uncorrected root, unlike in Adam.
#pragma once

#include "cresco/optim/moments.h"

namespace cresco::optim {

class SparseAdam final : public MomentOptimizer {
 public:
  using MomentOptimizer::MomentOptimizer;

 private:
  void update(Slot& slot, const at::Tensor& gradient, double lr) override;
};

}  // namespace cresco::optim
