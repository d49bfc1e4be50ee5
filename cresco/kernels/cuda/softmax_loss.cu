#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/softmax_body.h"

#include <cfloat>

namespace cresco::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarp = 32;

struct RowTeam {
  template <class Number>
  static constexpr Number kMost = sizeof(Number) == 4 ? Number(FLT_MAX) : Number(DBL_MAX);
  static constexpr std::int64_t threads = kThreads;
  std::int64_t thread = threadIdx.x;

  // Within each warp halves with halves, then the warps in order: the same result at every thread,
  // and at every time.
  template <class Number, class Join>
  __device__ Number joined(Number x, const Join& join) const {
    __shared__ Number part[kThreads / kWarp];
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
      x = join(x, __shfl_down_sync(0xffffffffu, x, distance));
    __syncthreads();  // the last one's parts have been read
    if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = x;
    __syncthreads();
    Number all = part[0];
    for (int i = 1; i < kThreads / kWarp; ++i) all = join(all, part[i]);
    return all;
  }
  template <class Number>
  __device__ Number sum(Number x) const {
    return joined(x, [](Number a, Number b) { return a + b; });
  }
  template <class Number>
  __device__ Number largest(Number x) const {
    return joined(x, [](Number a, Number b) { return a > b ? a : b; });
  }
};

template <class Number, class Gradient>
__global__ void __launch_bounds__(kThreads) rows_kernel(const SoftmaxRows<Number, Gradient> a) {
  RowTeam team;
  softmax::body(a, static_cast<std::int64_t>(blockIdx.x), team);
}

}  // namespace

template <class Number, class Gradient>
const char* softmax_rows(const SoftmaxRows<Number, Gradient>& a, void* stream) {
  rows_kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template const char* softmax_rows(const SoftmaxRows<float, float>&, void*);
template const char* softmax_rows(const SoftmaxRows<float, Bf16>&, void*);
template const char* softmax_rows(const SoftmaxRows<float, Fp16>&, void*);
template const char* softmax_rows(const SoftmaxRows<double, double>&, void*);

}  // namespace cresco::kernels::cuda
