#include "cresco/trajectories/steps.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::trajectories {
namespace {

using Steps = std::vector<std::int64_t>;

std::int64_t one_token_a_step(std::int64_t tokens) { return tokens; }

TEST(SnapshotSchedule, KnowsItsForms) {
  EXPECT_EQ(snapshot_schedule("log2", 10, one_token_a_step), (Steps{0, 1, 2, 4, 8, 10}));
  EXPECT_EQ(snapshot_schedule("0,5,7", 10, one_token_a_step), (Steps{0, 5, 7, 10}));
  EXPECT_EQ(snapshot_schedule("0:6:3,8", 10, one_token_a_step), (Steps{0, 3, 6, 8, 10}));
  EXPECT_EQ(
      snapshot_schedule("tokens:0,1e3,2001", 10, [](std::int64_t t) { return (t + 499) / 500; }),
      (Steps{0, 2, 5, 10}));
  EXPECT_EQ(snapshot_schedule("pythia", 143000, one_token_a_step).size(), 154u);
  EXPECT_THROW(snapshot_schedule("log3", 10, one_token_a_step), UsageError);
  EXPECT_THROW(snapshot_schedule("tokens:-5", 10, one_token_a_step), UsageError);
  EXPECT_THROW(snapshot_schedule("5:1", 10, one_token_a_step), UsageError);
}

TEST(ChooseSteps, NamesWhatExists) {
  const Steps there{0, 1, 2, 4, 8, 100};
  EXPECT_EQ(choose_steps("all", there, "t"), there);
  EXPECT_EQ(choose_steps("8,0", there, "t"), (Steps{0, 8}));
  EXPECT_EQ(choose_steps("0:8:4", there, "t"), (Steps{0, 4, 8}));
  EXPECT_THROW(choose_steps("1:10", there, "t"), Error);
  EXPECT_EQ(choose_steps("log2", there, "t"), (Steps{0, 1, 2, 4, 8}));
  EXPECT_THROW(choose_steps("3", there, "t"), Error);
  EXPECT_THROW(choose_steps("pythia-32", there, "t"), Error);
}

}  // namespace
}  // namespace cresco::trajectories
