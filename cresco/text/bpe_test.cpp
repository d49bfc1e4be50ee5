#include "cresco/text/bpe.h"

#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <map>

namespace cresco::text {
namespace {

// The definition: while any pair merges, merge the leftmost of the lowest rank.
std::vector<std::int32_t> merge_reference(const std::vector<Merge>& merges,
                                          std::vector<std::int32_t> symbols) {
  for (;;) {
    std::size_t best_rank = merges.size(), best = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (merges[rank].left == symbols[i] && merges[rank].right == symbols[i + 1]) {
          best_rank = rank;
          best = i;
        }
    if (best_rank == merges.size()) return symbols;
    symbols[best] = merges[best_rank].result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// Merges of a random vocabulary over the letters 0, 1, 2: each result is the token of its letters.
std::vector<Merge> random_merges(RandomStream& random, int count) {
  std::vector<std::string> tokens{"0", "1", "2"};
  std::map<std::string, std::int32_t> ids{{"0", 0}, {"1", 1}, {"2", 2}};
  std::map<std::pair<std::int32_t, std::int32_t>, bool> seen;
  std::vector<Merge> merges;
  while (static_cast<int>(merges.size()) < count) {
    const auto left = static_cast<std::int32_t>(random.below(tokens.size()));
    const auto right = static_cast<std::int32_t>(random.below(tokens.size()));
    if (!seen.emplace(std::pair(left, right), true).second) continue;
    const std::string both = tokens[left] + tokens[right];
    const auto [entry, is_new] = ids.emplace(both, static_cast<std::int32_t>(tokens.size()));
    if (is_new) tokens.push_back(both);
    merges.push_back({left, right, entry->second});
  }
  return merges;
}

TEST(Bpe, AgreesWithTheDefinition) {
  RandomStream random(1, "bpe_test");
  BpeMerger merger;
  for (int round = 0; round < 300; ++round) {
    const std::vector<Merge> merges = random_merges(random, 1 + static_cast<int>(random.below(40)));
    const MergeTable table(merges);
    for (const std::uint64_t longest : {5, 40, 60, 200}) {  // with and without the heap
      std::vector<std::int32_t> symbols(random.below(longest));
      for (std::int32_t& symbol : symbols) symbol = static_cast<std::int32_t>(random.below(3));
      const std::vector<std::int32_t> expected = merge_reference(merges, symbols);
      symbols.resize(merger.merge(table, symbols));
      ASSERT_EQ(symbols, expected);
    }
  }
}

TEST(Bpe, TakesEqualPairsFromTheLeft) {
  BpeMerger merger;
  const std::vector<Merge> merges{{0, 0, 1}};
  std::vector<std::int32_t> symbols(5, 0);
  symbols.resize(merger.merge(MergeTable(merges), symbols));
  EXPECT_EQ(symbols, (std::vector<std::int32_t>{1, 1, 0}));
}

TEST(Bpe, LeavesEverythingWithoutMerges) {
  BpeMerger merger;
  std::vector<std::int32_t> symbols(100, 7);
  EXPECT_EQ(merger.merge(MergeTable(), symbols), 100u);
  EXPECT_EQ(merger.merge(MergeTable(), {}), 0u);
}

}  // namespace
}  // namespace cresco::text
