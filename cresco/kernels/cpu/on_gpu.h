// Calls what starts a kernel on the GPU, which returns null or what CUDA says is wrong; Error for
// that, and in a build without CUDA.
#pragma once

#include "cresco/base/require.h"

namespace cresco::kernels {

template <class Launch>
void on_gpu([[maybe_unused]] const Launch& launch) {
#ifdef CRESCO_CUDA
  const char* const error = launch();
  require(error == nullptr, "the GPU refuses a kernel: {}", error ? error : "");
#else
  fail("this build has no kernels for a GPU");
#endif
}

}  // namespace cresco::kernels
