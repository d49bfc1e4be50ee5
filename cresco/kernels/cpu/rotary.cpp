// The kernels of rotary.h here, one thread after the other, and the way to the GPU's.
#include "cresco/kernels/rotary.h"

#include "cresco/kernels/cpu/on_gpu.h"
#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/rotary_body.h"

namespace cresco::kernels {

template <class Number>
void rotate(const Place& place, const Rotary<Number>& a, std::int64_t begin, std::int64_t end) {
  const RotarySizes& s = a.sizes;
  if (place.gpu) return on_gpu([&] { return cuda::rotate(a, begin, end, place.stream); });
  for (std::int64_t token = begin; token < end; ++token)
    for (std::int64_t head = 0; head < s.heads; ++head)
      for (std::int64_t part = 0; part < 2; ++part)
        for (std::int64_t j = 0; j < s.rotated / 2; ++j) rotary::body(a, token, head, part, j);
}

template <class Number>
void rotate_gradient(const Place& place, const RotaryGradient<Number>& a, std::int64_t begin,
                     std::int64_t end) {
  const RotarySizes& s = a.sizes;
  if (place.gpu) return on_gpu([&] { return cuda::rotate_gradient(a, begin, end, place.stream); });
  for (std::int64_t token = begin; token < end; ++token)
    for (std::int64_t head = 0; head < s.heads; ++head)
      for (std::int64_t part = 0; part < 3; ++part)
        for (std::int64_t c = 0; c < s.head_size; ++c) rotary::body(a, token, head, part, c);
}

#define CRESCO_KERNELS(Number)                                                             \
  template void rotate(const Place&, const Rotary<Number>&, std::int64_t, std::int64_t);   \
  template void rotate_gradient(const Place&, const RotaryGradient<Number>&, std::int64_t, \
                                std::int64_t);
CRESCO_KERNELS(float)
CRESCO_KERNELS(double)
CRESCO_KERNELS(Bf16)
CRESCO_KERNELS(Fp16)
#undef CRESCO_KERNELS

}  // namespace cresco::kernels
