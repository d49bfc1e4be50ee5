#include "cresco/dictionaries/rows.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {

std::int64_t rows_of_block(std::int64_t block_bytes, std::int64_t row_bytes) {
  return std::max<std::int64_t>(1, block_bytes / row_bytes);
}

Rows rows_in_memory(const at::Tensor& x_VKD) {
  return {x_VKD.size(0),
          x_VKD.size(1),
          x_VKD.size(2),
          {},
          [x_VKD](std::int64_t first, std::int64_t count) { return x_VKD.narrow(0, first, count); },
          [x_VKD](std::int64_t k, std::int64_t first, std::int64_t count) {
            return x_VKD.select(1, k).narrow(0, first, count);
          }};
}

StackRows::StackRows(const trajectories::Stack& stack, std::vector<std::int64_t> indices,
                     const std::string& mode, std::int64_t block_bytes,
                     const std::function<void(std::int64_t rows)>& done)
    : stack_(&stack), indices_(std::move(indices)), block_bytes_(block_bytes) {
  require_usage(block_bytes > 0, "block_bytes is {}, expected more than 0", block_bytes);
  moments_.resize(indices_.size());
  for (std::int64_t k = 0; k < num_heads(); ++k)
    for_raw_blocks(k, [&](const at::Tensor& rows_BD, std::int64_t first) {
      moments_[static_cast<std::size_t>(k)].add(rows_BD);
      if (done) done(k * num_rows() + first + rows_BD.size(0));
    });
  set_mode(mode);
}

void StackRows::set_mode(const std::string& mode) {
  statistics_.clear();
  for (const ColumnMoments& moments : moments_)
    statistics_.push_back(snapshot_statistics(moments, mode));
}

StackRows StackRows::with_mode(const std::string& mode) const {
  StackRows other(*this);
  other.set_mode(mode);
  return other;
}

std::int64_t StackRows::step(std::int64_t k) const {
  return stack_->steps()[static_cast<std::size_t>(indices_[static_cast<std::size_t>(k)])];
}

at::Tensor StackRows::raw(std::int64_t k, std::int64_t first, std::int64_t count) const {
  return stack_->rows(indices_[static_cast<std::size_t>(k)], first, count);
}

at::Tensor StackRows::preprocessed(std::int64_t k, std::int64_t first, std::int64_t count) const {
  return preprocess(raw(k, first, count), statistics(k));
}

Rows StackRows::rows() const {
  std::vector<at::Tensor> means;
  for (std::int64_t k = 0; k < num_heads(); ++k) {
    const SnapshotStatistics& s = statistics(k);
    const at::Tensor& mean_D = moments(k).mean_D();
    means.push_back(s.mean_D.defined() ? (mean_D - s.mean_D.to(at::kDouble)) / s.scale : mean_D);
  }
  return {num_rows(),
          num_heads(),
          width(),
          at::stack(means),
          [rows = *this](std::int64_t first, std::int64_t count) {
            at::Tensor x_BKD = at::empty({count, rows.num_heads(), rows.width()}, at::kFloat);
            for (std::int64_t k = 0; k < rows.num_heads(); ++k)
              x_BKD.select(1, k).copy_(rows.preprocessed(k, first, count));
            return x_BKD;
          },
          [rows = *this](std::int64_t k, std::int64_t first, std::int64_t count) {
            return rows.preprocessed(k, first, count);
          }};
}

}  // namespace cresco::dictionaries
