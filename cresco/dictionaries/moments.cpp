#include "cresco/dictionaries/moments.h"

#include "cresco/base/threads.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <vector>

namespace cresco::dictionaries {
namespace {

// Rows of numbers one after the other, each `stride` numbers behind the last.
template <class T>
struct Block {
  const T* numbers;
  std::int64_t rows, stride;
};

// Means of a group of columns and sums of squared deviations from them, in double. A few rows at a
// time, so that they are still in the cache when they are read again for their deviations, then
// merged as blocks are.
constexpr std::int64_t kColumns = 256, kRows = 64;
template <class T>
void add_columns(const Block<T>& x, std::int64_t first, std::int64_t columns, double* mean,
                 double* deviation) {
  std::array<double, kColumns> sum, squares;
  for (std::int64_t v = 0; v < x.rows; v += kRows) {
    const std::int64_t rows = std::min(kRows, x.rows - v);
    const T* const piece = x.numbers + v * x.stride + first;
    sum.fill(0);
    squares.fill(0);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t d = 0; d < columns; ++d)
        sum[static_cast<std::size_t>(d)] += static_cast<double>(piece[i * x.stride + d]);
    for (std::int64_t d = 0; d < columns; ++d)
      sum[static_cast<std::size_t>(d)] /= static_cast<double>(rows);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t d = 0; d < columns; ++d) {
        const double from_mean =
            static_cast<double>(piece[i * x.stride + d]) - sum[static_cast<std::size_t>(d)];
        squares[static_cast<std::size_t>(d)] += from_mean * from_mean;
      }
    const auto before = static_cast<double>(v);
    const double share = static_cast<double>(rows) / (before + static_cast<double>(rows));
    for (std::int64_t d = 0; d < columns; ++d) {
      const double shift = sum[static_cast<std::size_t>(d)] - mean[d];
      deviation[d] += squares[static_cast<std::size_t>(d)] + shift * shift * before * share;
      mean[d] += shift * share;
    }
  }
}

template <class T>
std::pair<at::Tensor, at::Tensor> block_moments(const at::Tensor& x_BD) {
  const Block<T> x{x_BD.const_data_ptr<T>(), x_BD.size(0), x_BD.stride(0)};
  const std::int64_t columns = x_BD.size(1), groups = (columns + kColumns - 1) / kColumns;
  const at::Tensor mean_D = at::zeros({columns}, at::kDouble), deviation_D = at::zeros_like(mean_D);
  double* const mean = mean_D.mutable_data_ptr<double>();
  double* const deviation = deviation_D.mutable_data_ptr<double>();
  const auto add = [&](std::int64_t group) {
    const std::int64_t first = group * kColumns;
    add_columns(x, first, std::min(kColumns, columns - first), mean + first, deviation + first);
  };
  constexpr std::int64_t kWorthThreads = 1 << 18;
  if (x_BD.numel() < kWorthThreads)
    for (std::int64_t group = 0; group < groups; ++group) add(group);
  else
    parallel_for(groups, add);
  return {mean_D, deviation_D};
}

}  // namespace

void ColumnMoments::add(const at::Tensor& x_BD) {
  if (x_BD.size(0) == 0) return;
  if (x_BD.is_cpu() && x_BD.stride(1) == 1 &&
      (x_BD.scalar_type() == at::kFloat || x_BD.scalar_type() == at::kDouble)) {
    const auto [mean_D, deviation_D] =
        x_BD.scalar_type() == at::kFloat ? block_moments<float>(x_BD) : block_moments<double>(x_BD);
    return merge(x_BD.size(0), mean_D, deviation_D);
  }
  const at::Tensor x64_BD = x_BD.to(at::kDouble);
  const at::Tensor mean_D = x64_BD.mean(0);
  merge(x_BD.size(0), mean_D, (x64_BD - mean_D).square_().sum(0));
}

void ColumnMoments::merge(std::int64_t count, const at::Tensor& mean_D,
                          const at::Tensor& deviation_D) {
  const auto rows = static_cast<double>(count), before = static_cast<double>(count_);
  count_ += count;
  if (before == 0) {
    mean_D_ = mean_D;
    deviation_D_ = deviation_D;
    return;
  }
  const at::Tensor shift_D = mean_D - mean_D_;
  const double share = rows / (rows + before);
  deviation_D_ = deviation_D_ + deviation_D + shift_D.square() * (before * share);
  mean_D_ = mean_D_ + shift_D * share;
}

double ColumnMoments::mean() const { return mean_D_.mean().item<double>(); }

double ColumnMoments::about_columns() const { return deviation_D_.sum().item<double>(); }

double ColumnMoments::about(double centre) const {
  return about_columns() +
         static_cast<double>(count_) * (mean_D_ - centre).square_().sum().item<double>();
}

}  // namespace cresco::dictionaries
