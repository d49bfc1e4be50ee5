// Memory for tensors that live as long as the run: faulted in once, by large pages where the system
// gives them, so that walking over many rows of a matrix does not miss the address cache at each.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::tensor {

// A contiguous CPU tensor of zeros, at an address that is a multiple of 2 MiB when it is large.
// std::bad_alloc when the memory is not there.
at::Tensor large_zeros(at::IntArrayRef sizes, at::ScalarType dtype);

// A buffer that stays and grows to what the largest call needs: its first numbers as a tensor of
// these sizes. On a CPU from large_zeros().
at::Tensor room(at::Tensor& buffer, at::IntArrayRef sizes, at::ScalarType dtype, at::Device device);

}  // namespace cresco::tensor
