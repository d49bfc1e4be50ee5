// Matrix products in a smaller type, as PyTorch's autocast chooses them; sums, norms and the
// gradients of weights stay float32.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::tensor {

// For as long as it lives, on this thread. float32 changes nothing.
class Autocast {
 public:
  Autocast(at::Device device, at::ScalarType dtype);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_;
  bool active_;
};

// Of the Autocast that is in force on this thread; float32 where none is.
at::ScalarType autocast_dtype(at::Device device);

}  // namespace cresco::tensor
