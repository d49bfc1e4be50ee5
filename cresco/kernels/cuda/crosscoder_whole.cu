#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/whole_body.h"

namespace cresco::kernels::cuda {
namespace {

constexpr int kThreads = 128, kWarp = 32;

template <class Arguments>
__global__ void __launch_bounds__(kThreads)
    columns_kernel(const Arguments a, std::int64_t columns) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column < columns) whole::body(a, column, static_cast<std::int64_t>(blockIdx.y));
}

struct BlockTeam {
  static constexpr std::int64_t threads = kThreads;
  std::int64_t thread = threadIdx.x;

  // Halves onto halves within each warp, then the warps in order. Thread 0 gets it.
  template <class Number>
  __device__ Number sum(Number x) const {
    __shared__ Number part[kThreads / kWarp];
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
      x += __shfl_down_sync(0xffffffffu, x, distance);
    if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = x;
    __syncthreads();
    Number total = 0;
    for (int i = 0; i < kThreads / kWarp; ++i) total += part[i];
    return total;
  }
};

template <class Arguments>
__global__ void __launch_bounds__(kThreads) rows_kernel(const Arguments a) {
  BlockTeam team;
  whole::body(a, static_cast<std::int64_t>(blockIdx.x), team);
}

const char* started() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

template <class Arguments>
const char* over_columns(const Arguments& arguments, std::int64_t columns, std::int64_t pieces,
                         void* stream) {
  const dim3 grid(static_cast<unsigned>((columns + kThreads - 1) / kThreads),
                  static_cast<unsigned>(pieces));
  columns_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(arguments, columns);
  return started();
}

template <class Arguments>
const char* over_rows(const Arguments& arguments, std::int64_t rows, void* stream) {
  rows_kernel<<<static_cast<unsigned>(rows), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      arguments);
  return started();
}

#define CRESCO_KERNELS(Number)                                                                     \
  template const char* over_columns(const WholeCodes<Number>&, std::int64_t, std::int64_t, void*); \
  template const char* over_columns(const WholeError<Number>&, std::int64_t, std::int64_t, void*); \
  template const char* over_columns(const WholeDifferentiate<Number>&, std::int64_t, std::int64_t, \
                                    void*);                                                        \
  template const char* over_rows(const WholeUpdate<Number>&, std::int64_t, void*);                 \
  template const char* over_rows(const WholeNorms<Number>&, std::int64_t, void*);
CRESCO_KERNELS(float)
CRESCO_KERNELS(double)
#undef CRESCO_KERNELS

}  // namespace cresco::kernels::cuda
