#include "cresco/dictionaries/rows.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

// Three snapshots far from 0, in a type that a file may hold.
struct Stored {
  TemporaryFolder folder;
  std::vector<at::Tensor> matrices;

  explicit Stored(at::ScalarType dtype) {
    for (const char* name : {"a", "b", "c"})
      matrices.push_back((toy::normal({50, 6}, 0, name) * 3 + 7).to(dtype));
    toy::write_stack(folder / "s", matrices);
  }
  trajectories::Stack stack() const { return trajectories::Stack(folder / "s"); }
};

TEST(StackRows, AreThoseOfThePreprocessedStackHoweverManyAreRead) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Stored stored(dtype);
    const trajectories::Stack stack = stored.stack();
    for (const char* mode : {"none", "center", "center_scale"}) {
      const at::Tensor x_VKD = preprocess_stack(stack, {2, 0}, mode, at::kCPU).x_VKD;
      for (const std::int64_t block_bytes : {1, 1000, 1 << 20}) {
        const StackRows rows(stack, {2, 0}, mode, block_bytes);
        EXPECT_TRUE(at::equal(rows.rows().read(0, 50), x_VKD)) << mode;
        EXPECT_TRUE(at::equal(rows.rows().read(11, 7), x_VKD.narrow(0, 11, 7))) << mode;
        EXPECT_TRUE(
            at::equal(rows.rows().read_head(1, 48, 2), x_VKD.select(1, 1).narrow(0, 48, 2)));
        EXPECT_TRUE(at::allclose(rows.rows().mean_KD, x_VKD.to(at::kDouble).mean(0), 1e-12, 1e-7));
      }
    }
  }
}

TEST(StackRows, SayHowManyTheyHaveReadAndMayBeStopped) {
  const Stored stored(at::kFloat);
  const trajectories::Stack stack = stored.stack();
  std::vector<std::int64_t> said;
  const StackRows rows(stack, {0, 1}, "center", 1 << 20,
                       [&](std::int64_t done) { said.push_back(done); });
  EXPECT_EQ(said, (std::vector<std::int64_t>{50, 100}));
  EXPECT_THROW(StackRows(stack, {0, 1}, "center", 1, [](std::int64_t) { fail("stopped"); }), Error);
}

TEST(StackRows, ChangeTheirModeWithoutReading) {
  const Stored stored(at::kFloat);
  const trajectories::Stack stack = stored.stack();
  const StackRows rows(stack, {0, 1, 2}, "center_scale");
  const StackRows other = rows.with_mode("center");
  EXPECT_EQ(other.statistics(1).scale, 1);
  EXPECT_NE(rows.statistics(1).scale, 1);
  EXPECT_EQ(rows.step(2), 200);
  EXPECT_TRUE(at::equal(other.raw(1, 3, 4), stored.matrices[1].narrow(0, 3, 4)));
  EXPECT_THROW(rows.with_mode("scale"), UsageError);
  EXPECT_THROW(StackRows(stack, {0}, "none", 0), UsageError);
}

}  // namespace
}  // namespace cresco::dictionaries
