// Parts of a forward pass that several families have.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace cresco::models {

struct Linear {
  at::Tensor weight, bias;                           // (out, in), (out); bias may be undefined
  at::Tensor operator()(const at::Tensor& x) const;  // W x + b
};

struct LayerNorm {
  at::Tensor weight, bias;  // (D); bias may be undefined
  double epsilon = 1e-5;
  at::Tensor operator()(const at::Tensor& x) const;
};

// w x / sqrt(mean(x^2) + epsilon), computed in float32 when x is in a smaller type, and multiplied
// by w before it is made small again (Zhang and Sennrich 2019).
struct RmsNorm {
  at::Tensor weight;  // (D)
  double epsilon = 1e-6;
  at::Tensor operator()(const at::Tensor& x) const;
};

// Rows of the embedding. On a CPU, where the weights have a .grad already, their gradient touches
// only the rows of `ids_NT`; otherwise it is a matrix of their size.
at::Tensor embed(const at::Tensor& weight_VD, const at::Tensor& ids_NT);

// x/2 (1 + erf(x / sqrt 2)) for "gelu", the tanh form for the other names of config.json.
at::Tensor gelu(const at::Tensor& x, const std::string& name);

// Cosines and sines of the rotary embedding's angles, position * base^(-2j/R) for each of the R/2
// pairs, twice over; float32, or float64 when `like` is (Su et al. 2021).
struct RotaryTable {
  at::Tensor cos_TR, sin_TR;
};
RotaryTable rotary_table(std::int64_t positions, std::int64_t rotary_size, double base,
                         const at::Tensor& like);
// Rotates the first R of C dimensions; dimension j is paired with j + R/2. The result has the wider
// type of the two.
at::Tensor rotate(const at::Tensor& x_NHTC, const RotaryTable& table);

// Queries, keys and values of GPT-NeoX's fused map, whose numbers for a token are [q | k | v] of
// head 0, then of head 1, ..., with queries and keys rotated as by rotate(). All three are views of
// the memory of qkv_NTJ (J = 3 H C), which is changed: it must be the caller's own, contiguous, and
// not be used again.
struct QueryKeyValue {
  at::Tensor q_NHTC, k_NHTC, v_NHTC;
};
QueryKeyValue rotate_in_place(const at::Tensor& qkv_NTJ, std::int64_t heads,
                              const RotaryTable& table);

// Causal attention: every position reads itself and what stands before it. `scale` multiplies the
// scores. Where k and v have fewer heads than q, each is read by a group of consecutive queries.
// (N, H, T, C) -> (N, T, H C), heads side by side.
at::Tensor causal_attention(const at::Tensor& q_NHTC, const at::Tensor& k_NHTC,
                            const at::Tensor& v_NHTC, double scale);

}  // namespace cresco::models
