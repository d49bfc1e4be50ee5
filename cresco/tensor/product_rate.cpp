#include "cresco/tensor/product_rate.h"

#include "cresco/base/progress.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace cresco::tensor {

namespace {

double measured_gflops(at::Device device, at::ScalarType dtype) {
  const std::int64_t largest = device.is_cpu() ? 1536 : 8192;
  // Some processors have no fast product of a small type: sizes grow until one takes its time.
  constexpr double kLongEnough = 0.02;
  double most = 0;
  for (std::int64_t n = largest / 8; n <= largest; n *= 2) {
    const at::Tensor a = at::rand({n, n}, at::TensorOptions().device(device)).to(dtype);
    at::Tensor out = at::empty({n, n}, at::TensorOptions(dtype).device(device));
    const auto size = static_cast<double>(n);
    double fastest = 1e30;
    for (int i = 0; i < 4; ++i) {
      const double started = now_seconds();
      at::mm_out(out, a, a);
      out[0][0].item<double>();  // waits for a GPU
      fastest = std::min(fastest, now_seconds() - started);
    }
    most = std::max(most, 2 * size * size * size / fastest / 1e9);
    if (fastest > kLongEnough) break;
  }
  return most;
}

}  // namespace

double product_gflops(at::Device device, at::ScalarType dtype) {
  static std::map<std::pair<std::string, at::ScalarType>, double> measured;
  const auto [found, is_new] = measured.try_emplace({device.str(), dtype}, 0);
  if (is_new) found->second = measured_gflops(device, dtype);
  return found->second;
}

}  // namespace cresco::tensor
