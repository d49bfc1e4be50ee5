// The rows that a dictionary reads, block by block: from memory, or from a stack's file, of which
// only a block is then in memory.
#pragma once

#include "cresco/dictionaries/moments.h"
#include "cresco/dictionaries/preprocess.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// How much memory a block of rows and what is made of it may take, unless somebody says otherwise.
inline constexpr std::int64_t kBlockBytes = std::int64_t{256} << 20;

struct Rows {
  std::int64_t num_rows = 0, num_heads = 0, width = 0;
  at::Tensor mean_KD;  // of the columns, double; undefined when nobody has taken them yet
  // Rows [first, first + count), preprocessed, in float32 or float64: x_BKD, and x_BD of one head.
  std::function<at::Tensor(std::int64_t first, std::int64_t count)> read;
  std::function<at::Tensor(std::int64_t k, std::int64_t first, std::int64_t count)> read_head;

  // Calls action(first, count) for one block after the other.
  template <class Action>
  void for_blocks(std::int64_t rows, const Action& action) const {
    for (std::int64_t v = 0; v < num_rows; v += rows) action(v, std::min(rows, num_rows - v));
  }
};

Rows rows_in_memory(const at::Tensor& x_VKD);

// Rows that fit a block when each takes this many bytes: at least one.
std::int64_t rows_of_block(std::int64_t block_bytes, std::int64_t row_bytes);

// Some snapshots of a stack, in the order of a dictionary's heads, each preprocessed. The file is
// read once for the statistics, which do not depend on `block_bytes` but for the last bits of a
// double. `done` is called after each block with the rows read so far, of all snapshots; it may
// throw.
class StackRows {
 public:
  StackRows(const trajectories::Stack& stack, std::vector<std::int64_t> indices,
            const std::string& mode, std::int64_t block_bytes = kBlockBytes,
            const std::function<void(std::int64_t rows)>& done = nullptr);
  // The same, preprocessed in another way; nothing is read.
  StackRows with_mode(const std::string& mode) const;

  const trajectories::Stack& stack() const { return *stack_; }
  std::int64_t num_rows() const { return stack_->num_rows(); }
  std::int64_t num_heads() const { return static_cast<std::int64_t>(indices_.size()); }
  std::int64_t width() const { return stack_->width(); }
  std::int64_t block_bytes() const { return block_bytes_; }
  std::int64_t step(std::int64_t k) const;

  // Of head k, as they are stored.
  const ColumnMoments& moments(std::int64_t k) const { return moments_[std::size_t(k)]; }
  const SnapshotStatistics& statistics(std::int64_t k) const { return statistics_[std::size_t(k)]; }
  at::Tensor raw(std::int64_t k, std::int64_t first, std::int64_t count) const;           // (B,D)
  at::Tensor preprocessed(std::int64_t k, std::int64_t first, std::int64_t count) const;  // (B,D)
  Rows rows() const;

  // Calls action(rows of the stored matrix, first) for one block of head k after the other.
  template <class Action>
  void for_raw_blocks(std::int64_t k, const Action& action) const {
    const std::int64_t rows = rows_of_block(block_bytes_, 6 * 4 * width());
    for (std::int64_t v = 0; v < num_rows(); v += rows)
      action(raw(k, v, std::min(rows, num_rows() - v)), v);
  }

 private:
  StackRows() = default;
  void set_mode(const std::string& mode);

  const trajectories::Stack* stack_ = nullptr;
  std::vector<std::int64_t> indices_;
  std::int64_t block_bytes_ = kBlockBytes;
  std::vector<ColumnMoments> moments_;
  std::vector<SnapshotStatistics> statistics_;
};

}  // namespace cresco::dictionaries
