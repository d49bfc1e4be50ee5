// Where a kernel that is written for both runs: here, or on the current GPU, in a stream (a
// cudaStream_t; null is the default one). A launch that fails throws Error.
#pragma once

namespace cresco::kernels {

struct Place {
  bool gpu = false;
  void* stream = nullptr;
};

}  // namespace cresco::kernels
