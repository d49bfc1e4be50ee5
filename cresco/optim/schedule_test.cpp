#include "cresco/optim/schedule.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::optim {
namespace {

// The published facts of Pythia's rate: 0 at step 0, 0.5157 of the peak half way, the floor from
// 115,139.
TEST(Schedule, NeoxCosineIsPythias) {
  const ScheduleConfig c{"neox_cosine", 1430, 143000, 0.1};
  EXPECT_EQ(lr_factor(c, 0, 0), 0);
  EXPECT_EQ(lr_factor(c, 1430, 0), 1);
  EXPECT_NEAR(lr_factor(c, 71500, 0), 0.5157, 5e-5);
  EXPECT_GT(lr_factor(c, 115138, 0), 0.1);
  EXPECT_EQ(lr_factor(c, 115139, 0), 0.1);
  EXPECT_EQ(lr_factor(c, 143000, 0), 0.1);
}

// The recipe-control arms: 0.9988 of the peak at step 4769, 0.834 with the long warm-up.
TEST(Schedule, CosineIsTheRecipeControls) {
  EXPECT_NEAR(lr_factor({"cosine", 1430, 143000, 0.1}, 4769, 0), 0.9988, 5e-5);
  EXPECT_NEAR(lr_factor({"cosine", 5720, 143000, 0.1}, 4769, 0), 0.834, 5e-4);
  EXPECT_EQ(lr_factor({"cosine", 10, 100, 0.1}, 100, 0), 0.1);
}

TEST(Schedule, OthersEndWhereTheyShould) {
  EXPECT_DOUBLE_EQ(lr_factor({"linear", 10, 0, 0.0}, 60, 110), 0.5);
  EXPECT_DOUBLE_EQ(lr_factor({"wsd", 10, 0, 0.0}, 89, 100), 1);
  EXPECT_NEAR(lr_factor({"wsd", 10, 0, 0.0}, 95, 100), 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(lr_factor({"constant", 0, 0, 0.1}, 99, 100), 1);
  EXPECT_THROW(check({"cosin", 0, 0, 0.1}), UsageError);
}

}  // namespace
}  // namespace cresco::optim
