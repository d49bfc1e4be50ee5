// The element-wise half of a training step, one head at a time: plain loops over rows and features.
// Sums over rows are taken in chunks of kChunkRows rows, whatever the number of threads, so that
// the same numbers are added in the same order.
#pragma once

#include <cstdint>

namespace cresco::dictionaries::detail {

inline constexpr std::int64_t kChunkRows = 64;
inline std::int64_t num_chunks(std::int64_t rows) { return (rows + kChunkRows - 1) / kChunkRows; }

// One head of a batch: p and everything else named _BF is (rows, features), row-major.
template <class Number>
struct Head {
  std::int64_t rows, features;
  const Number* p_BF;
  const Number* norm_F;
  const Number* threshold_F;
};

// With u = p n: code = p and score = stretch * u where u > threshold, both 0 elsewhere. Returns how
// many gates are open.
template <class Number>
std::int64_t open_gates(const Head<Number>& head, Number stretch, Number* code_BF,
                        Number* score_BF);

// With s = tanh(score) and q = 1 - s^2, the gradient on the code is g = from_decoder + pull q. Then
//   dp += g where open;  sum of a q over each chunk's rows;  sum of g over each chunk's rows with
//   0 < u and |u - threshold| < window / 2.
template <class Number>
struct GateGradients {
  const Number* code_BF;
  const Number* tanh_score_BF;
  const Number* from_decoder_BF;
  const Number* pull_F;
  Number half_window;
  Number* pre_activation_BF;  // dp: added to
  Number* code_pull_CF;       // (num_chunks, features): written
  Number* near_threshold_CF;  // (num_chunks, features): written
};

template <class Number>
void gate_gradients(const Head<Number>& head, const GateGradients<Number>& gradients);

}  // namespace cresco::dictionaries::detail
