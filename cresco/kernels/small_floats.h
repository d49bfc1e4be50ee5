// bfloat16 and half numbers as kernels that are written for both CPU and GPU read and write them.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define CRESCO_BODY __host__ __device__ inline
#else
#define CRESCO_BODY inline
#endif

namespace cresco::kernels {

struct Bf16 {
  std::uint16_t bits;
};
struct Fp16 {
  std::uint16_t bits;
};

template <class Number>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
// What is computed with.
template <class Number>
using WideOf = typename Wide<Number>::type;

#ifdef __CUDACC__
CRESCO_BODY float wide(Bf16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
CRESCO_BODY float wide(Fp16 x) { return __half2float(__ushort_as_half(x.bits)); }
CRESCO_BODY void write(Bf16* to, float x) {
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
CRESCO_BODY void write(Fp16* to, float x) { to->bits = __half_as_ushort(__float2half_rn(x)); }
#else
CRESCO_BODY float wide(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
CRESCO_BODY float wide(Fp16 x) {
  _Float16 value;
  __builtin_memcpy(&value, &x, sizeof value);
  return static_cast<float>(value);
}
CRESCO_BODY void write(Bf16* to, float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  to->bits = static_cast<std::uint16_t>(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
CRESCO_BODY void write(Fp16* to, float x) {
  const auto half = static_cast<_Float16>(x);
  __builtin_memcpy(to, &half, sizeof half);
}
#endif
CRESCO_BODY float wide(float x) { return x; }
CRESCO_BODY double wide(double x) { return x; }
CRESCO_BODY void write(float* to, float x) { *to = x; }
CRESCO_BODY void write(double* to, double x) { *to = x; }

}  // namespace cresco::kernels

#undef CRESCO_BODY
