#include "cresco/tensor/autocast.h"

#include <ATen/autocast_mode.h>

namespace cresco::tensor {

Autocast::Autocast(at::Device device, at::ScalarType dtype)
    : device_(device.type()), active_(dtype != at::kFloat) {
  if (!active_) return;
  at::autocast::set_autocast_dtype(device_, dtype);
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active_) return;
  // Weights that were made small are forgotten: the next step has others.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, false);
}

at::ScalarType autocast_dtype(at::Device device) {
  return at::autocast::is_autocast_enabled(device.type())
             ? at::autocast::get_autocast_dtype(device.type())
             : at::kFloat;
}

}  // namespace cresco::tensor
