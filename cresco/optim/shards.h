// Which rank keeps the optimizer's state of which numbers, and updates them (ZeRO stage 1).
#pragma once

#include <cstdint>
#include <vector>

namespace cresco::optim {

// Tensors are cut at multiples of this many numbers, and norms are summed by such blocks, so that
// nothing depends on where the cuts are.
inline constexpr std::int64_t kBlock = std::int64_t{1} << 14;

struct ShardItem {
  std::int64_t numel = 0;
  std::int64_t state_numbers = 0;  // per number of the tensor; 0 counts as 1
  bool whole = false;              // one rank's, all of it
};

struct Slice {
  std::size_t item = 0;
  std::int64_t begin = 0, end = 0;  // of its numbers
  int owner = 0;
};

// Covers every number of every item once, in order of item and begin; the same on every rank. Whole
// items go to the rank that has least so far, the largest first; the others are dealt out in order,
// up to a common level of state.
std::vector<Slice> share_out(const std::vector<ShardItem>& items, int ranks);

}  // namespace cresco::optim
