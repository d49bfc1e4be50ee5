#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/rotary_body.h"

namespace cresco::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A thread for each of `places` within each of `parts` of each head of each token.
template <class Arguments>
__global__ void __launch_bounds__(kThreads)
    rotary_kernel(const Arguments a, std::int64_t first, std::int64_t parts, std::int64_t places,
                  std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t part_of_all = i / places, head_of_all = part_of_all / parts;
  rotary::body(a, first + head_of_all / a.sizes.heads, head_of_all % a.sizes.heads,
               part_of_all % parts, i % places);
}

template <class Arguments>
const char* start(const Arguments& a, std::int64_t parts, std::int64_t places, std::int64_t begin,
                  std::int64_t end, void* stream) {
  const std::int64_t count = (end - begin) * a.sizes.heads * parts * places;
  if (count == 0) return nullptr;
  rotary_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0,
                  static_cast<cudaStream_t>(stream)>>>(a, begin, parts, places, count);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

template <class Number>
const char* rotate(const Rotary<Number>& a, std::int64_t begin, std::int64_t end, void* stream) {
  return start(a, 2, a.sizes.rotated / 2, begin, end, stream);
}
template <class Number>
const char* rotate_gradient(const RotaryGradient<Number>& a, std::int64_t begin, std::int64_t end,
                            void* stream) {
  return start(a, 3, a.sizes.head_size, begin, end, stream);
}

#define CRESCO_KERNELS(Number)                                                                    \
  template const char* rotate(const Rotary<Number>&, std::int64_t, std::int64_t, void*);          \
  template const char* rotate_gradient(const RotaryGradient<Number>&, std::int64_t, std::int64_t, \
                                       void*);
CRESCO_KERNELS(float)
CRESCO_KERNELS(double)
CRESCO_KERNELS(Bf16)
CRESCO_KERNELS(Fp16)
#undef CRESCO_KERNELS

}  // namespace cresco::kernels::cuda
