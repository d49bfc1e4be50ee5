#include "cresco/lifecycle/neighbours.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace cresco::lifecycle {
namespace {

// By its formula, in double, one pair at a time.
double cosine_of(const at::Tensor& decoder_KFD, std::int64_t f, std::int64_t g) {
  double dot = 0, ff = 0, gg = 0;
  const at::Tensor decoder = decoder_KFD.to(at::kDouble);
  const auto w = decoder.accessor<double, 3>();
  for (std::int64_t k = 0; k < w.size(0); ++k)
    for (std::int64_t d = 0; d < w.size(2); ++d) {
      dot += w[k][f][d] * w[k][g][d];
      ff += w[k][f][d] * w[k][f][d];
      gg += w[k][g][d] * w[k][g][d];
    }
  return dot / std::sqrt(ff * gg);
}

TEST(Neighbours, AreThoseOfTheSlowWayWhateverTheBlocks) {
  at::manual_seed(2);
  const at::Tensor decoder_KFD = at::randn({3, 23, 6}) * at::rand({1, 23, 1}).add(0.1);
  std::vector<std::int64_t> features;  // not all of them, and not in order
  for (std::int64_t f = 22; f >= 0; --f)
    if (f % 5 != 2) features.push_back(f);
  for (const std::int64_t block : {1, 4, 7, 100}) {
    std::int64_t calls = 0, total = 0;
    const auto found = nearest_features(
        decoder_KFD, features, 4,
        [&](std::int64_t done, std::int64_t of) {
          EXPECT_EQ(done, ++calls);
          total = of;
        },
        block);
    EXPECT_EQ(calls, total);
    ASSERT_EQ(found.size(), features.size());
    for (std::size_t i = 0; i < features.size(); ++i) {
      std::vector<std::pair<double, std::int64_t>> slow;
      for (const std::int64_t g : features)
        if (g != features[i]) slow.emplace_back(-cosine_of(decoder_KFD, features[i], g), g);
      std::sort(slow.begin(), slow.end());
      ASSERT_EQ(found[i].size(), 4u);
      for (std::size_t r = 0; r < 4; ++r) {
        EXPECT_EQ(found[i][r].feature, slow[r].second) << "block " << block;
        EXPECT_NEAR(found[i][r].cosine, -slow[r].first, 1e-6);
      }
    }
  }
}

TEST(Neighbours, AreNoMoreThanThereAre) {
  const at::Tensor decoder_KFD = at::ones({2, 3, 4});
  const auto found = nearest_features(decoder_KFD, {0, 2}, 5);
  ASSERT_EQ(found[0].size(), 1u);
  EXPECT_EQ(found[0][0].feature, 2);
  EXPECT_NEAR(found[0][0].cosine, 1, 1e-6);
  EXPECT_TRUE(nearest_features(decoder_KFD, {1}, 5)[0].empty());
  EXPECT_TRUE(nearest_features(decoder_KFD, {}, 5).empty());
}

TEST(Neighbours, OfNothingAreAtRightAngles) {
  at::Tensor decoder_KFD = at::ones({1, 2, 3});
  decoder_KFD[0][1].zero_();
  EXPECT_EQ(nearest_features(decoder_KFD, {0, 1}, 1)[0][0].cosine, 0);
}

}  // namespace
}  // namespace cresco::lifecycle
