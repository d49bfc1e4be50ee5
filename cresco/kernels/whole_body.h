// What one thread does in the kernels of crosscoder_whole.h. Included by what compiles them: by
// nvcc, a thread of a GPU to each column or a team of threads to each row; here, one after the
// other.
#pragma once

#include "cresco/kernels/crosscoder_whole.h"

#include <cmath>

#ifdef __CUDACC__
#define CRESCO_BODY __device__ inline
#else
#define CRESCO_BODY inline
#endif

namespace cresco::kernels::whole {

struct RowRange {
  std::int64_t begin, end;
};
CRESCO_BODY RowRange rows_of_piece(std::int64_t piece, std::int64_t piece_rows, std::int64_t rows) {
  const std::int64_t end = (piece + 1) * piece_rows;
  return {piece * piece_rows, end < rows ? end : rows};
}

template <class Number>
CRESCO_BODY void body(const WholeCodes<Number>& a, std::int64_t f, std::int64_t piece) {
  const Number norm = a.norm_F[f], theta = a.threshold_F[f];
  const RowRange range = rows_of_piece(piece, kPieceRows, a.rows);
  double score = 0;
  std::int64_t open = 0;
  for (std::int64_t b = range.begin; b < range.end; ++b) {
    const Number p = a.pre_BF[b * a.features + f], u = p * norm;
    const bool is_open = u > theta;
    a.code_BF[b * a.features + f] = is_open ? p : Number(0);
    if (!is_open) continue;
    score += static_cast<double>(std::tanh(u * a.stretch));
    ++open;
  }
  a.score_sum_CF[piece * a.features + f] += score;
  a.num_open_CF[piece * a.features + f] += open;
}

template <class Number>
CRESCO_BODY void body(const WholeError<Number>& a, std::int64_t c, std::int64_t piece) {
  const Number bias = a.bias_D[c];
  const RowRange range = rows_of_piece(piece, kErrorPieceRows, a.rows);
  double square = 0;
  Number sum = 0;
  for (std::int64_t b = range.begin; b < range.end; ++b) {
    Number& error = a.error_BD[b * a.width + c];
    const Number difference = error + bias - a.target_factor * a.target_BD[b * a.target_stride + c];
    square += static_cast<double>(difference) * static_cast<double>(difference);
    error = a.scale * difference;
    sum += error;
  }
  a.square_CD[piece * a.width + c] = square;
  a.column_sum_CD[piece * a.width + c] = sum;
}

template <class Number>
CRESCO_BODY void body(const WholeDifferentiate<Number>& a, std::int64_t f, std::int64_t piece) {
  const RowRange range = rows_of_piece(piece, kPieceRows, a.rows);
  if (!a.threshold_F) {
    for (std::int64_t b = range.begin; b < range.end; ++b) {
      const std::int64_t at = b * a.features + f;
      const Number code = a.pre_BF[at];
      if (code > 0) a.pre_gradient_BF[at] += a.product_BF[at];
      a.product_BF[at] = code;
    }
    return;
  }
  const Number norm = a.norm_F[f], theta = a.threshold_F[f], pull = a.pull_F[f];
  const Number inverse_norm = norm > 0 ? 1 / norm : Number(0);
  double near = 0;
  Number code_pull = 0;
  for (std::int64_t b = range.begin; b < range.end; ++b) {
    const std::int64_t at = b * a.features + f;
    const Number p = a.pre_BF[at], u = p * norm, product = a.product_BF[at];
    Number code = 0, rest = 1;  // rest: 1 - s^2
    if (u > theta) {
      const Number s = std::tanh(u * a.stretch);
      code = p;
      rest = 1 - s * s;
      code_pull += code * rest;
      a.pre_gradient_BF[at] += product + pull * norm * rest;
    }
    a.product_BF[at] = code;
    const Number distance = u > theta ? u - theta : theta - u;
    if (u > 0 && distance < a.half_window)
      near += static_cast<double>(product * inverse_norm + pull * rest);
  }
  a.near_CF[piece * a.features + f] += near;
  a.code_pull_CF[piece * a.features + f] = code_pull;
}

// A team is the threads that share a row: its number of threads, which of them this is, and the
// sum of what all of them give, in an order that is always the same.
template <class Number, class Team>
CRESCO_BODY void body(const WholeUpdate<Number>& a, std::int64_t row, Team& team) {
  const auto beta1 = static_cast<Number>(a.rates.beta1), beta2 = static_cast<Number>(a.rates.beta2),
             rest1 = static_cast<Number>(1 - a.rates.beta1),
             rest2 = static_cast<Number>(1 - a.rates.beta2), eps = static_cast<Number>(a.rates.eps),
             step = static_cast<Number>(a.rates.step_size),
             correction = static_cast<Number>(1 / a.rates.root_correction),
             decay = static_cast<Number>(a.rates.decay);
  Number along = 0;
  if (a.pull_F && a.norm_F[row] > 0) along = a.pull_F[row] * a.code_pull_F[row] / a.norm_F[row];
  Number squares = 0;
  for (std::int64_t c = team.thread; c < a.columns; c += team.threads) {
    const std::int64_t at = row * a.columns + c;
    const Number value = a.tensor.value[at];
    const Number g = a.gradient[at] + along * value;
    if (a.tensor.gradient) {
      a.tensor.gradient[at] = g;
      continue;
    }
    const Number m = a.tensor.exp_avg[at] * beta1 + g * rest1;
    const Number v = a.tensor.exp_avg_sq[at] * beta2 + g * g * rest2;
    const Number next = value * decay - step * m / (std::sqrt(v) * correction + eps);
    a.tensor.exp_avg[at] = m;
    a.tensor.exp_avg_sq[at] = v;
    a.tensor.value[at] = next;
    squares += next * next;
  }
  if (!a.new_norm_F || a.tensor.gradient) return;  // the same for the whole team
  const Number square = team.sum(squares);
  if (team.thread == 0) a.new_norm_F[row] = std::sqrt(square);
}

template <class Number, class Team>
CRESCO_BODY void body(const WholeNorms<Number>& a, std::int64_t row, Team& team) {
  Number squares = 0;
  for (std::int64_t c = team.thread; c < a.columns; c += team.threads) {
    const Number value = a.value[row * a.columns + c];
    squares += value * value;
  }
  const Number square = team.sum(squares);
  if (team.thread == 0) a.norm[row] = std::sqrt(square);
}

}  // namespace cresco::kernels::whole

#undef CRESCO_BODY
