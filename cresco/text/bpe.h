// Byte-pair merging of one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace cresco::text {

// What merging makes of a pair of tokens: merges of lower rank go first.
struct Merge {
  std::int32_t left, right, result;
};

// (left, right) -> (rank, result), by open addressing. Immutable.
class MergeTable {
 public:
  static constexpr std::int32_t kNone = INT32_MAX;  // the rank of a pair that does not merge
  struct Entry {
    std::int32_t rank = kNone, result = -1;
  };

  MergeTable() : MergeTable(std::span<const Merge>()) {}
  // In order of rank. Of a pair that stands twice the first counts.
  explicit MergeTable(std::span<const Merge> merges);

  Entry find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair = key(left, right);
    for (std::uint64_t i = place(pair);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.pair == pair) return slot.entry;
      if (slot.entry.rank == kNone) return slot.entry;
    }
  }

 private:
  struct Slot {
    std::uint64_t pair = ~std::uint64_t{0};
    Entry entry;
  };
  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::uint64_t place(std::uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Slot> slots_;
  std::uint64_t mask_ = 0;
  int shift_ = 0;
};

// Merges symbols until no pair merges: always the pair of the lowest rank, and of equals the
// leftmost. Holds scratch memory: one per thread.
class BpeMerger {
 public:
  // Works in place and returns how many symbols are left.
  std::size_t merge(const MergeTable& table, std::span<std::int32_t> symbols);

 private:
  std::size_t merge_short(const MergeTable& table, std::span<std::int32_t> symbols);
  std::size_t merge_long(const MergeTable& table, std::span<std::int32_t> symbols);

  struct Candidate {
    std::int32_t rank;
    std::uint32_t position;
    std::int32_t result;
  };
  std::vector<Candidate> heap_;
  std::vector<std::uint32_t> previous_, next_;
};

}  // namespace cresco::text
