// What one thread does in the kernels of rotary.h. Included by what compiles it: by nvcc, a thread
// of a GPU to each place; here, one after the other.
#pragma once

#include "cresco/kernels/rotary.h"

#ifdef __CUDACC__
#define CRESCO_BODY __device__ inline
#else
#define CRESCO_BODY inline
#endif

namespace cresco::kernels::rotary {

// Of one token and head: pair j of the query, or of the key.
template <class Number>
CRESCO_BODY void body(const Rotary<Number>& a, std::int64_t token, std::int64_t head,
                      std::int64_t part, std::int64_t j) {
  const RotarySizes& s = a.sizes;
  const std::int64_t at = token % s.positions * s.rotated + j, half = s.rotated / 2;
  Number* const x = a.qkv + ((token * s.heads + head) * 3 + part) * s.head_size;
  const auto cos = a.cos_TR[at], sin = a.sin_TR[at];
  const auto first = wide(x[j]), second = wide(x[j + half]);
  write(x + j, first * cos - second * sin);
  write(x + j + half, second * cos + first * sin);
}

// Of one token and head: dimension c of part 0, 1 or 2 (q, k, v).
template <class Number>
CRESCO_BODY void body(const RotaryGradient<Number>& a, std::int64_t token, std::int64_t head,
                      std::int64_t part, std::int64_t c) {
  const RotarySizes& s = a.sizes;
  const std::int64_t sequence = token / s.positions, position = token % s.positions;
  const HeadGradients<Number>& from = part == 0 ? a.q : part == 1 ? a.k : a.v;
  const Number* const g =
      from.data + sequence * from.sequence + head * from.head + position * from.position;
  Number* const to = a.qkv + ((token * s.heads + head) * 3 + part) * s.head_size + c;
  if (part == 2 || c >= s.rotated) {
    *to = g[c];
    return;
  }
  const std::int64_t at = position * s.rotated + c, half = s.rotated / 2;
  const auto turned = c < half ? wide(g[c + half]) : -wide(g[c - half]);
  write(to, wide(g[c]) * a.cos_TR[at] + turned * a.sin_TR[at]);
}

}  // namespace cresco::kernels::rotary

#undef CRESCO_BODY
