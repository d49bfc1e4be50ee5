#include "cresco/optim/shards.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace cresco::optim {
namespace {

std::int64_t total(const std::vector<std::int64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::int64_t{0});
}

// Covers everything once, in order, at multiples of kBlock; returns each rank's numbers of state.
std::vector<std::int64_t> loads(const std::vector<ShardItem>& items, int ranks) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(ranks));
  std::size_t item = 0;
  std::int64_t at = 0;
  for (const Slice& slice : share_out(items, ranks)) {
    while (item < items.size() && at == items[item].numel) ++item, at = 0;
    EXPECT_EQ(slice.item, item);
    EXPECT_EQ(slice.begin, at);
    EXPECT_GT(slice.end, slice.begin);
    EXPECT_TRUE(slice.end % kBlock == 0 || slice.end == items[item].numel);
    EXPECT_EQ(slice.begin % kBlock, 0);
    if (items[slice.item].whole) EXPECT_EQ(slice.end, items[slice.item].numel);
    EXPECT_TRUE(slice.owner >= 0 && slice.owner < ranks);
    out[static_cast<std::size_t>(slice.owner)] +=
        (slice.end - slice.begin) * items[slice.item].state_numbers;
    at = slice.end;
  }
  while (item < items.size() && at == items[item].numel) ++item, at = 0;
  EXPECT_EQ(item, items.size());
  return out;
}

// A model of width d with six layers and a large vocabulary.
std::vector<ShardItem> model(bool with_muon) {
  const std::int64_t d = 256, V = 50304;
  std::vector<ShardItem> items{{V * d, 2}};
  for (int layer = 0; layer < 6; ++layer) {
    for (const std::int64_t numel : {3 * d * d, d * d, 4 * d * d, 4 * d * d})
      items.push_back({numel, with_muon ? 1 : 2, with_muon});
    for (const std::int64_t numel : {3 * d, d, 4 * d, d, d, d, d, d}) items.push_back({numel, 2});
  }
  items.push_back({V * d, 2});
  return items;
}

TEST(ShareOut, LevelsTheState) {
  for (const bool with_muon : {false, true})
    for (const int ranks : {1, 2, 3, 4, 8}) {
      const auto by_rank = loads(model(with_muon), ranks);
      const auto mean = total(by_rank) / ranks;
      for (const std::int64_t load : by_rank)
        EXPECT_NEAR(static_cast<double>(load), static_cast<double>(mean), 4 * kBlock)
            << ranks << with_muon;
    }
}

TEST(ShareOut, SharesWholeMatricesAsFarAsTheyGo) {
  std::vector<ShardItem> items(7, {1000, 1, true});
  const auto by_rank = loads(items, 3);
  EXPECT_EQ(*std::max_element(by_rank.begin(), by_rank.end()), 3000);
  EXPECT_EQ(*std::min_element(by_rank.begin(), by_rank.end()), 2000);
  // One matrix and little else: the other rank gets all of the rest.
  EXPECT_EQ(loads({{1 << 20, 1, true}, {500, 2}, {600, 2}}, 2),
            (std::vector<std::int64_t>{1 << 20, 2200}));
}

TEST(ShareOut, HasRoomForMoreRanksThanNumbers) {
  EXPECT_EQ(total(loads({{10, 2}, {20, 2}}, 8)), 60);
  EXPECT_TRUE(share_out({}, 3).empty());
}

}  // namespace
}  // namespace cresco::optim
