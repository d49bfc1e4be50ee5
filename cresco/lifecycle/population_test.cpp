#include "cresco/lifecycle/population.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::lifecycle {
namespace {

TEST(Population, CountsTheLiving) {
  // Columns: always there; late; early; too small to count.
  const at::Tensor norms = at::tensor({1.0, 0.1, 0.8, 0.001,   //
                                       1.0, 0.9, 0.2, 0.001,   //
                                       0.6, 1.0, 0.1, 0.001},  //
                                      at::kDouble)
                               .reshape({3, 4});
  const at::Tensor rates = at::full({3, 4}, 0.25, at::kDouble);
  const auto all = population(norms, rates, norm_lifecycles(norms, {0, 10, 100}));
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].alive, 2);
  EXPECT_EQ(all[1].alive, 2);
  EXPECT_EQ(all[1].born, 1);
  EXPECT_EQ(all[0].died, 1);
  EXPECT_EQ(all[2].born + all[2].died + all[0].born + all[1].died, 0);
  EXPECT_DOUBLE_EQ(all[0].mean_rate, 0.25);
  EXPECT_DOUBLE_EQ(all[0].median_norm, 0.8);
}

TEST(Population, OfNobodyHasNoMedian) {
  const at::Tensor zeros = at::zeros({2, 3}, at::kDouble);
  const auto all = population(zeros, zeros, norm_lifecycles(zeros, {0, 1}));
  EXPECT_EQ(all[0].alive, 0);
  EXPECT_TRUE(std::isnan(all[0].mean_rate));
  EXPECT_TRUE(std::isnan(all[1].median_norm));
}

}  // namespace
}  // namespace cresco::lifecycle
