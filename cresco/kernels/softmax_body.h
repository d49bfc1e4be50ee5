// What one thread does in softmax_rows. Included by what compiles it: by nvcc, a team of threads to
// each row; here, one row after the other.
#pragma once

#include "cresco/kernels/softmax_loss.h"

#include <cmath>

#ifdef __CUDACC__
#define CRESCO_BODY __device__ inline
#else
#define CRESCO_BODY inline
#endif

namespace cresco::kernels::softmax {

// A team is the threads that share a row: how many, which of them this is, and the largest and the
// sum of what all give, which every one of them gets when all have come there.
template <class Number, class Gradient, class Team>
CRESCO_BODY void body(const SoftmaxRows<Number, Gradient>& a, std::int64_t row, Team& team) {
  const Number* const x = a.x_RV + row * a.stride;
  Gradient* const gradient = a.gradient_RV ? a.gradient_RV + row * a.stride : nullptr;
  const std::int64_t target = a.target_R[row];
  if (target < 0) {  // the same for the whole team
    for (std::int64_t c = team.thread; gradient && c < a.columns; c += team.threads)
      write(gradient + c, Number(0));
    if (team.thread == 0) a.loss_R[row] = 0;
    return;
  }
  Number largest = -Team::template kMost<Number>, sum = 0;
  for (std::int64_t c = team.thread; c < a.columns; c += team.threads) {
    const Number value = x[c];
    if (value > largest) {
      sum = sum * std::exp(largest - value) + 1;
      largest = value;
    } else {
      sum += std::exp(value - largest);
    }
  }
  const Number target_logit = x[target];  // before anybody writes a gradient
  const Number largest_of_row = team.largest(largest);
  const Number total = team.sum(sum * std::exp(largest - largest_of_row));
  if (team.thread == 0)
    a.loss_R[row] = total > 0 ? static_cast<double>(largest_of_row) +
                                    std::log(static_cast<double>(total)) -
                                    static_cast<double>(target_logit)
                              : std::nan("");
  if (!gradient) return;
  const Number weight = static_cast<Number>(a.weight), factor = weight / total;
  for (std::int64_t c = team.thread; c < a.columns; c += team.threads) {
    const Number share = std::exp(x[c] - largest_of_row) * factor;
    write(gradient + c, c == target ? share - weight : share);
  }
}

}  // namespace cresco::kernels::softmax

#undef CRESCO_BODY
