#include "cresco/lifecycle/promoted_tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::lifecycle {
namespace {

TEST(PromotedTokens, AreTheLargestScoresAmongTheTokens) {
  at::Tensor matrix_VD = at::zeros({10, 4});
  matrix_VD[3][0] = 2;
  matrix_VD[5][0] = 1;
  matrix_VD[9][0] = 7;  // a padding row
  matrix_VD[1][2] = 3;
  const at::Tensor decoder_FD =
      at::tensor({0.f, 0.f, 0.5f, 0.f, 2.f, 0.f, 0.f, 0.f}).reshape({2, 4});
  const auto lists = feature_tokens(matrix_VD, decoder_FD, {1, 0}, 8, 2, 0, 100);
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_EQ(lists[0].feature, 1);
  EXPECT_EQ(lists[0].promoted.tokens[0].token_id, 3);
  EXPECT_EQ(lists[0].promoted.tokens[0].score, 4);
  EXPECT_EQ(lists[0].promoted.tokens[1].token_id, 5);
  EXPECT_EQ(lists[1].promoted.tokens[0].token_id, 1);
  EXPECT_EQ(lists[1].promoted.tokens[0].score, 1.5);
  EXPECT_NEAR(lists[0].promoted.floor / lists[1].promoted.floor, 4,
              1e-5);  // the floor is proportional to the length
}

// Statistics: the floor of a Gaussian matrix is the expected maximum of V normals, about sqrt(2 ln
// V). The mean of 32 maxima has a standard error below 0.1 here; the bound is four of them.
TEST(PromotedTokens, HaveAFloorThatChanceReaches) {
  at::manual_seed(3);
  const at::Tensor matrix_VD = at::randn({2000, 64}), decoder_FD = at::randn({1, 64});
  const double length = decoder_FD.norm().item<double>();
  const auto list = feature_tokens(matrix_VD, decoder_FD, {0}, 2000, 5, 0, 0)[0];
  EXPECT_NEAR(list.promoted.floor / length, 3.43, 0.4);
  EXPECT_NEAR(list.promoted.tokens[0].score / length, list.promoted.floor / length, 1.5);
  EXPECT_EQ(list.promoted.floor,
            feature_tokens(matrix_VD, decoder_FD, {0}, 2000, 1, 0, 0)[0].promoted.floor);
}

// A direction suppresses what its opposite promotes.
TEST(SuppressedTokens, AreTheLowestScores) {
  at::manual_seed(4);
  const at::Tensor matrix_VD = at::randn({50, 8}), decoder_FD = at::randn({1, 8});
  const auto lists =
      feature_tokens(matrix_VD, at::cat({decoder_FD, -decoder_FD}), {0, 1}, 50, 6, 0, 7);
  ASSERT_EQ(lists[0].suppressed.tokens.size(), 6u);
  for (std::size_t r = 0; r < 6; ++r) {
    EXPECT_EQ(lists[0].suppressed.tokens[r].token_id, lists[1].promoted.tokens[r].token_id);
    EXPECT_EQ(lists[0].suppressed.tokens[r].score, -lists[1].promoted.tokens[r].score);
  }
  EXPECT_LT(lists[0].suppressed.floor, 0);
  // The same directions' other ends: alike up to what 32 maxima of 50 normals vary.
  EXPECT_NEAR(-lists[0].suppressed.floor / lists[0].promoted.floor, 1, 0.3);
}

TEST(FiveSnapshots, AreTheEndsAndThreeBetween) {
  std::vector<double> even;
  for (int k = 0; k <= 8; ++k) even.push_back(k / 8.0);
  EXPECT_EQ(five_snapshots(even, 0), (std::vector<std::int64_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(five_snapshots(even, 8), (std::vector<std::int64_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(five_snapshots(even, 4), (std::vector<std::int64_t>{0, 2, 4, 6, 8}));
  EXPECT_EQ(five_snapshots(even, 7), (std::vector<std::int64_t>{0, 2, 4, 7, 8}));
  EXPECT_EQ(five_snapshots(even, 1), (std::vector<std::int64_t>{0, 1, 4, 6, 8}));
  // Crowded steps: never the same twice.
  EXPECT_EQ(five_snapshots({0, 0.9, 0.91, 0.92, 0.93, 0.94, 1}, 0),
            (std::vector<std::int64_t>{0, 1, 2, 3, 6}));
  EXPECT_EQ(five_snapshots({0, 0.5, 1}, 1), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(five_snapshots({0}, 0), (std::vector<std::int64_t>{0}));
}

}  // namespace
}  // namespace cresco::lifecycle
