// Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015) as PyTorch computes it:
//   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   p <- p - lr/(1 - b1^t) * m / (sqrt(v)/sqrt(1 - b2^t) + eps)
#pragma once

#include "cresco/optim/moments.h"

namespace cresco::optim {

class Adam final : public MomentOptimizer {
 public:
  using MomentOptimizer::MomentOptimizer;

 private:
  void update(Slot& slot, const at::Tensor& gradient, double lr) override;
};

}  // namespace cresco::optim
