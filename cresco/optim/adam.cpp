#include "cresco/optim/adam.h"

#include <ATen/ATen.h>

namespace cresco::optim {

void Adam::update(Slot& slot, const at::Tensor& gradient, double lr) {
  ++slot.num_updates;
  const at::Tensor t =
      at::full({}, static_cast<double>(slot.num_updates), gradient.options().dtype(at::kFloat));
  at::_fused_adam_({slot.parameter}, {gradient}, {slot.exp_avg}, {slot.exp_avg_sq}, {}, {t}, lr,
                   decay_.beta1, decay_.beta2, /*weight_decay=*/0.0, decay_.eps, /*amsgrad=*/false,
                   /*maximize=*/false);
}

}  // namespace cresco::optim
