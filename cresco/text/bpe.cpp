#include "cresco/text/bpe.h"

#include <algorithm>
#include <bit>

namespace cresco::text {
namespace {

// Up to here looking at every pair for each merge is quicker than keeping a heap.
constexpr std::size_t kShort = 48;

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 2));
  slots_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  std::int32_t rank = 0;
  for (const Merge& merge : merges) {
    const std::uint64_t pair = key(merge.left, merge.right);
    std::uint64_t i = place(pair);
    while (slots_[i].entry.rank != kNone && slots_[i].pair != pair) i = (i + 1) & mask_;
    if (slots_[i].entry.rank == kNone) slots_[i] = {pair, {rank, merge.result}};
    ++rank;
  }
}

std::size_t BpeMerger::merge(const MergeTable& table, std::span<std::int32_t> symbols) {
  if (symbols.size() < 2) return symbols.size();
  return symbols.size() <= kShort ? merge_short(table, symbols) : merge_long(table, symbols);
}

std::size_t BpeMerger::merge_short(const MergeTable& table, std::span<std::int32_t> symbols) {
  std::array<MergeTable::Entry, kShort> pairs;  // pairs[i]: symbols i and i + 1
  std::size_t size = symbols.size();
  for (std::size_t i = 0; i + 1 < size; ++i) pairs[i] = table.find(symbols[i], symbols[i + 1]);

  while (size > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < size; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == MergeTable::kNone) break;

    symbols[best] = pairs[best].result;
    --size;
    for (std::size_t i = best + 1; i < size; ++i) {
      symbols[i] = symbols[i + 1];
      pairs[i - 1] = pairs[i];
    }
    if (best > 0) pairs[best - 1] = table.find(symbols[best - 1], symbols[best]);
    if (best + 1 < size) pairs[best] = table.find(symbols[best], symbols[best + 1]);
  }
  return size;
}

// The symbols are a linked list in place; the heap holds the pairs that merge, some of them out of
// date.
std::size_t BpeMerger::merge_long(const MergeTable& table, std::span<std::int32_t> symbols) {
  constexpr std::int32_t kDead = -1;
  const auto size = static_cast<std::uint32_t>(symbols.size());
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  heap_.clear();
  previous_.resize(size);
  next_.resize(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    previous_[i] = i - 1;  // of the first: unused
    next_[i] = i + 1;      // of the last: size
    if (i + 1 == size) break;
    const auto [rank, result] = table.find(symbols[i], symbols[i + 1]);
    if (rank != MergeTable::kNone) heap_.push_back({rank, i, result});
  }
  std::make_heap(heap_.begin(), heap_.end(), later);

  const auto push = [&](std::uint32_t left, std::uint32_t right) {
    const auto [rank, result] = table.find(symbols[left], symbols[right]);
    if (rank == MergeTable::kNone) return;
    heap_.push_back({rank, left, result});
    std::push_heap(heap_.begin(), heap_.end(), later);
  };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const auto [rank, left, result] = heap_.back();
    heap_.pop_back();
    if (symbols[left] == kDead || next_[left] == size) continue;
    const std::uint32_t right = next_[left];
    if (table.find(symbols[left], symbols[right]).rank != rank) continue;

    symbols[left] = result;
    symbols[right] = kDead;
    next_[left] = next_[right];
    if (next_[left] != size) {
      previous_[next_[left]] = left;
      push(left, next_[left]);
    }
    if (left != 0) push(previous_[left], left);
  }

  std::size_t kept = 0;
  for (std::uint32_t i = 0; i < size; i = next_[i]) symbols[kept++] = symbols[i];
  return kept;
}

}  // namespace cresco::text
