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

// GPT-NeoX's: nothing happens at step 0; the cosine is divided by all steps, not by those after the
// warm-up, so that half way is not half way; the floor is reached early and kept.
TEST(Schedule, TheTwoCosinesDiffer) {
  const ScheduleConfig plain{"cosine", 1430, 143000, 0.1}, neox{"neox_cosine", 1430, 143000, 0.1};
  EXPECT_EQ(lr_factor(plain, 715, 0), 0.5);
  EXPECT_EQ(lr_factor(neox, 715, 0), 0.5);
  EXPECT_NEAR(lr_factor(plain, (1430 + 143000) / 2, 0), 0.55, 1e-12);
  EXPECT_NEAR(lr_factor(neox, 1430 + 143000 / 2, 0), 0.5, 1e-12);
  EXPECT_GT(lr_factor(plain, 142999, 0), 0.1);
  EXPECT_EQ(lr_factor(plain, 200000, 0), 0.1);
  EXPECT_EQ(lr_factor(neox, 200000, 0), 0.1);
}

// Record 8 of the published Muon runs: 4578 steps, the last 1308 of them down to 0.
TEST(Schedule, WarmsDownLinearly) {
  const ScheduleConfig c{"wsd", 0, 0, 0.0, 1308.0 / 4578};
  EXPECT_EQ(lr_factor(c, 0, 4578), 1);
  EXPECT_NEAR(lr_factor(c, 4578 - 1308, 4578), 1, 1e-12);
  for (const std::int64_t left : {1307, 654, 1})
    EXPECT_NEAR(lr_factor(c, 4578 - left, 4578), static_cast<double>(left) / 1308, 1e-12);
  EXPECT_EQ(lr_factor(c, 4578, 4578), 0);
  const ScheduleConfig floor{"wsd", 10, 0, 0.1, 0.4};
  EXPECT_DOUBLE_EQ(lr_factor(floor, 60, 100), 1);
  EXPECT_NEAR(lr_factor(floor, 80, 100), 0.55, 1e-12);
  EXPECT_THROW(check({"wsd", 0, 0, 0.1, 0}), UsageError);
  EXPECT_THROW(check({"wsd", 0, 0, 0.1, 1.5}), UsageError);
  EXPECT_THROW(check({"cosine", 100, 100, 0.1}), UsageError);
  EXPECT_NO_THROW(check({"constant", 100, 10, 0.1}));
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
