#include "cresco/optim/sparse_adam.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace cresco::optim {

void SparseAdam::update(Slot& slot, const at::Tensor& gradient, double lr) {
  if (!gradient.any().item<bool>()) return;
  const double t = static_cast<double>(++slot.num_updates);
  const double scaled_lr =
      lr * std::sqrt(1 - std::pow(decay_.beta2, t)) / (1 - std::pow(decay_.beta1, t));
  const at::Tensor g_contiguous = gradient.contiguous();

  AT_DISPATCH_FLOATING_TYPES(slot.parameter.scalar_type(), "sparse_adam", [&] {
    const auto b1 = static_cast<scalar_t>(decay_.beta1), b2 = static_cast<scalar_t>(decay_.beta2);
    const auto c1 = static_cast<scalar_t>(1 - decay_.beta1),
               c2 = static_cast<scalar_t>(1 - decay_.beta2);
    const auto eps = static_cast<scalar_t>(decay_.eps), rate = static_cast<scalar_t>(scaled_lr);
    scalar_t* const p = slot.parameter.mutable_data_ptr<scalar_t>();
    scalar_t* const m = slot.exp_avg.mutable_data_ptr<scalar_t>();
    scalar_t* const v = slot.exp_avg_sq.mutable_data_ptr<scalar_t>();
    const scalar_t* const g = g_contiguous.const_data_ptr<scalar_t>();
    at::parallel_for(0, slot.parameter.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * g[i] * g[i];
        if (g[i] != 0) p[i] -= rate * m[i] / (std::sqrt(v[i]) + eps);
      }
    });
  });
}

}  // namespace cresco::optim
