// Rotary position embedding (Su et al. 2021) of the queries and keys in GPT-NeoX's fused map, where
// the numbers of a token are [q | k | v] of head 0, then of head 1, ... Of a head's C dimensions
// the first R turn: dimension j < R/2 together with j + R/2, by the angle of the token's position.
#pragma once

#include "cresco/kernels/place.h"
#include "cresco/kernels/small_floats.h"

#include <cstdint>

namespace cresco::kernels {

struct RotarySizes {
  std::int64_t positions = 0, heads = 0, head_size = 0, rotated = 0;  // T, H, C, R
};

// Number is float, double, Bf16 or Fp16; it is computed in float, or double.
template <class Number>
struct Rotary {
  RotarySizes sizes;
  const WideOf<Number>* cos_TR = nullptr;
  const WideOf<Number>* sin_TR = nullptr;
  Number* qkv = nullptr;  // tokens (N T), of H x 3 x C numbers each, changed where they are
};
// Of tokens [begin, end).
template <class Number>
void rotate(const Place& place, const Rotary<Number>& arguments, std::int64_t begin,
            std::int64_t end);

// Gradients of q, k and v, (N, H, T, C) in any layout that has the numbers of a head side by side.
template <class Number>
struct HeadGradients {
  const Number* data = nullptr;
  std::int64_t sequence = 0, head = 0, position = 0;  // strides
};
template <class Number>
struct RotaryGradient {
  RotarySizes sizes;
  const WideOf<Number>* cos_TR = nullptr;
  const WideOf<Number>* sin_TR = nullptr;
  HeadGradients<Number> q, k, v;
  Number* qkv = nullptr;  // their gradient, turned back, of every token
};
template <class Number>
void rotate_gradient(const Place& place, const RotaryGradient<Number>& arguments,
                     std::int64_t begin, std::int64_t end);

}  // namespace cresco::kernels
