#include "cresco/tensor/product_rate.h"

#include "cresco/base/progress.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::tensor {

double product_gflops(at::Device device, at::ScalarType dtype) {
  const std::int64_t n = device.is_cpu() ? 1536 : 8192;
  const auto options = at::TensorOptions(dtype).device(device);
  const at::Tensor a = at::rand({n, n}, at::TensorOptions().device(device)).to(dtype);
  at::Tensor out = at::empty({n, n}, options);
  double fastest = 1e30;
  for (int i = 0; i < 4; ++i) {
    const double started = now_seconds();
    at::mm_out(out, a, a);
    out[0][0].item<double>();  // waits for a GPU
    fastest = std::min(fastest, now_seconds() - started);
  }
  const auto size = static_cast<double>(n);
  return 2 * size * size * size / fastest / 1e9;
}

}  // namespace cresco::tensor
