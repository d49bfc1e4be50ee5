// Cross entropy over a large vocabulary and its gradient, from the logits of a few rows at a time.
// Letters: R rows (tokens), V columns (the vocabulary).
//
// On a CPU the columns are cut into blocks that a core's second-level cache holds together with
// what the products before and after need. With m the largest logit of a row within a block,
//   softmax_block     x -> exp(x - m), once for each logit, and their sum
//   softmax_merge     of all blocks of a row: log-sum-exp, loss, and each block's factor
//   softmax_gradient  exp(x - m) -> weight (softmax - onehot)
// so that the exponential is computed once, and a block is touched only where it is in the cache:
// when its logits have just been made, and when its gradient is about to be used.
//
// On a GPU a team of threads takes a whole row: softmax_rows.
//
// The loss of a row is its log-sum-exp minus the target's logit, in nats. A target of -1 is
// ignored: no loss, a gradient of zeros. A logit that is NaN, +infinity, or all of a row's
// -infinity make the row's loss NaN.
#pragma once

#include "cresco/kernels/panel_product.h"
#include "cresco/kernels/place.h"
#include "cresco/kernels/small_floats.h"

#include <cstdint>

namespace cresco::kernels {

inline constexpr std::int64_t kIgnoredTarget = -1;

// Columns [first, first + columns) of `panels` x 64 rows, in panels as products make them
// (panel_product.h): the numbers of 64 rows for a column lie side by side. Rows that a panel does
// not need have the target -1.
struct SoftmaxBlock {
  std::int64_t panels = 0, columns = 0;
  std::int64_t first = 0;
  float* x = nullptr;  // (panels, columns, 64): logits, then exp(x - m), then the gradient
  const std::int64_t* target_R = nullptr;
  float* target_logit_R = nullptr;  // written for rows whose target is one of these columns
  float* largest_R = nullptr;       // m
  float* sum_R = nullptr;           // of exp(x - m)
  float* factor_R = nullptr;        // weight exp(m - log-sum-exp); 0 for ignored rows
};

// The exponential is within 2 units in the last place, and 0 below exp(-87.3).
void softmax_block(const SoftmaxBlock& block, Isa isa = chosen_isa());
// `weight` multiplies the gradients. What would be denormal becomes 0.
void softmax_gradient(const SoftmaxBlock& block, float weight, Isa isa = chosen_isa());

struct SoftmaxMerge {
  std::int64_t rows = 0, blocks = 0;
  const std::int64_t* target_R = nullptr;
  const float* target_logit_R = nullptr;
  const float* largest_NR = nullptr;  // of each block
  const float* sum_NR = nullptr;
  double weight = 1;
  float* factor_NR = nullptr;  // null: losses alone
  double* loss_R = nullptr;
};
// Of rows [begin, end); blocks in order, in double.
void softmax_merge(const SoftmaxMerge& merge, std::int64_t begin, std::int64_t end);

template <class Number, class Gradient>
struct SoftmaxRows {
  std::int64_t rows = 0, columns = 0, stride = 0;
  const Number* x_RV = nullptr;
  const std::int64_t* target_R = nullptr;
  double weight = 1;
  Gradient* gradient_RV = nullptr;  // may be x_RV itself; null: losses alone
  double* loss_R = nullptr;
};
// (float, float), (float, Bf16), (float, Fp16) and (double, double). Maximum and sum in one pass
// over the logits, the gradient in another.
template <class Number, class Gradient>
void softmax_rows(const Place& place, const SoftmaxRows<Number, Gradient>& arguments);

}  // namespace cresco::kernels
