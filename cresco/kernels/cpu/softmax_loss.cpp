// The variants of blocks by instruction set, what merges blocks, and whole rows: here, one thread
// after the other, and the way to the GPU's.
#include "cresco/kernels/softmax_loss.h"

#include "cresco/kernels/cpu/denormals.h"
#include "cresco/kernels/cpu/on_gpu.h"
#include "cresco/kernels/cpu/softmax_table.h"
#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/softmax_body.h"

#include <algorithm>
#include <limits>

namespace cresco::kernels {
namespace {

struct OneThread {
  template <class Number>
  static constexpr Number kMost = std::numeric_limits<Number>::max();
  std::int64_t thread = 0, threads = 1;
  template <class Number>
  Number sum(Number x) const {
    return x;
  }
  template <class Number>
  Number largest(Number x) const {
    return x;
  }
};

}  // namespace

void softmax_block(const SoftmaxBlock& block, Isa isa) {
  void (*const variants[])(const SoftmaxBlock&) = {x86_64::softmax_block, avx2::softmax_block,
                                                   avx512::softmax_block};
  variants[static_cast<int>(isa)](block);
}

void softmax_gradient(const SoftmaxBlock& block, float weight, Isa isa) {
  const DenormalsAreZero guard;  // the products that follow would meet them again and again
  void (*const variants[])(const SoftmaxBlock&, float) = {
      x86_64::softmax_gradient, avx2::softmax_gradient, avx512::softmax_gradient};
  variants[static_cast<int>(isa)](block, weight);
}

void softmax_merge(const SoftmaxMerge& m, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    if (m.target_R[row] < 0) {
      m.loss_R[row] = 0;
      for (std::int64_t n = 0; m.factor_NR && n < m.blocks; ++n) m.factor_NR[n * m.rows + row] = 0;
      continue;
    }
    const auto largest_of = [&](std::int64_t n) {
      return static_cast<double>(m.largest_NR[n * m.rows + row]);
    };
    double largest = largest_of(0);
    for (std::int64_t n = 1; n < m.blocks; ++n) largest = std::max(largest, largest_of(n));
    double sum = 0;
    for (std::int64_t n = 0; n < m.blocks; ++n)
      sum += static_cast<double>(m.sum_NR[n * m.rows + row]) * std::exp(largest_of(n) - largest);
    const double log_sum = largest + std::log(sum);
    const auto target_logit = static_cast<double>(m.target_logit_R[row]);
    m.loss_R[row] = std::isfinite(log_sum) && sum > 0 ? log_sum - target_logit
                                                      : std::numeric_limits<double>::quiet_NaN();
    for (std::int64_t n = 0; m.factor_NR && n < m.blocks; ++n)
      m.factor_NR[n * m.rows + row] =
          static_cast<float>(m.weight * std::exp(largest_of(n) - log_sum));
  }
}

template <class Number, class Gradient>
void softmax_rows(const Place& place, const SoftmaxRows<Number, Gradient>& a) {
  if (place.gpu) return on_gpu([&] { return cuda::softmax_rows(a, place.stream); });
  OneThread team;
  for (std::int64_t row = 0; row < a.rows; ++row) softmax::body(a, row, team);
}

template void softmax_rows(const Place&, const SoftmaxRows<float, float>&);
template void softmax_rows(const Place&, const SoftmaxRows<float, Bf16>&);
template void softmax_rows(const Place&, const SoftmaxRows<float, Fp16>&);
template void softmax_rows(const Place&, const SoftmaxRows<double, double>&);

}  // namespace cresco::kernels
