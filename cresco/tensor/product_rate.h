// What this machine's matrix products reach: the measure of how well a training uses it.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::tensor {

// GFLOP/s of a product of two square matrices, the best of some, 2 n^3 each; below a second.
double product_gflops(at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat);

}  // namespace cresco::tensor
