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
  const auto lists = promoted_tokens(matrix_VD, decoder_FD, {1, 0}, 8, 2, 0, 100);
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_EQ(lists[0].feature, 1);
  EXPECT_EQ(lists[0].tokens[0].token_id, 3);
  EXPECT_EQ(lists[0].tokens[0].score, 4);
  EXPECT_EQ(lists[0].tokens[1].token_id, 5);
  EXPECT_EQ(lists[1].tokens[0].token_id, 1);
  EXPECT_EQ(lists[1].tokens[0].score, 1.5);
  EXPECT_NEAR(lists[0].floor / lists[1].floor, 4, 1e-5);  // the floor is proportional to the length
}

// Statistics: the floor of a Gaussian matrix is the expected maximum of V normals, about sqrt(2 ln
// V). The mean of 32 maxima has a standard error below 0.1 here; the bound is four of them.
TEST(PromotedTokens, HaveAFloorThatChanceReaches) {
  at::manual_seed(3);
  const at::Tensor matrix_VD = at::randn({2000, 64}), decoder_FD = at::randn({1, 64});
  const double length = decoder_FD.norm().item<double>();
  const auto list = promoted_tokens(matrix_VD, decoder_FD, {0}, 2000, 5, 0, 0)[0];
  EXPECT_NEAR(list.floor / length, 3.43, 0.4);
  EXPECT_NEAR(list.tokens[0].score / length, list.floor / length, 1.5);
  EXPECT_EQ(list.floor, promoted_tokens(matrix_VD, decoder_FD, {0}, 2000, 1, 0, 0)[0].floor);
}

}  // namespace
}  // namespace cresco::lifecycle
