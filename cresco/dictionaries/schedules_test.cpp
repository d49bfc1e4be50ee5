#include "cresco/dictionaries/schedules.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(LearningRateFactor, WarmsUpAndDecays) {
  EXPECT_DOUBLE_EQ(learning_rate_factor(0, 100, 0.1, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(9, 100, 0.1, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(50, 100, 0.1, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(80, 100, 0, 0.2), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(90, 100, 0, 0.2), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(100, 100, 0, 0.2), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(99, 100, 0, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(5, 10, 0.8, 0.8), 6.0 / 8);  // warm-up comes first
}

TEST(SparsityFactor, StartsAtZeroWithAWarmUp) {
  EXPECT_EQ(sparsity_factor(0, 1000, 0.05), 0);
  EXPECT_EQ(sparsity_factor(25, 1000, 0.05), 0.5);
  EXPECT_EQ(sparsity_factor(50, 1000, 0.05), 1);
  EXPECT_EQ(sparsity_factor(999, 1000, 0.05), 1);
  EXPECT_EQ(sparsity_factor(0, 1000, 0), 1);
  EXPECT_EQ(sparsity_factor(0, 10, 0.05), 1);  // a warm-up of no steps
}

TEST(StepsPerEpoch, CountsTheRaggedBatch) {
  EXPECT_EQ(steps_per_epoch(50304, 1024), 50);
  EXPECT_EQ(steps_per_epoch(100352, 1024), 98);
  EXPECT_EQ(steps_per_epoch(50304, 2048), 25);
  EXPECT_EQ(steps_per_epoch(3, 1024), 1);
}

}  // namespace
}  // namespace cresco::dictionaries
