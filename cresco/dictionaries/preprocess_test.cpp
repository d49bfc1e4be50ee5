#include "cresco/dictionaries/preprocess.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(Preprocess, GivesEverySnapshotUnitMeanSquare) {
  const at::Tensor matrix = 3 * toy::normal({500, 16}, 0, "x") + 5;
  const at::Tensor x = preprocess(matrix, snapshot_statistics(matrix, "center_scale"));
  EXPECT_NEAR(x.to(at::kDouble).square().sum().item<double>(), 500 * 16, 0.01);
  EXPECT_LT(x.mean(0).abs().max().item<double>(), 1e-5);
}

TEST(Preprocess, ComesBack) {
  const at::Tensor matrix = 3 * toy::normal({500, 16}, 0, "x") + 5;
  for (const char* mode : {"none", "center", "center_scale"}) {
    const auto statistics = snapshot_statistics(matrix, mode);
    EXPECT_LE(
        (restore(preprocess(matrix, statistics), statistics) - matrix).abs().max().item<double>(),
        1e-5)
        << mode;
  }
}

TEST(Preprocess, LeavesAloneWhatTheModeDoesNotName) {
  const at::Tensor matrix = toy::normal({50, 4}, 0, "x");
  EXPECT_TRUE(at::equal(preprocess(matrix, snapshot_statistics(matrix, "none")), matrix));
  const auto centred = snapshot_statistics(matrix, "center");
  EXPECT_EQ(centred.scale, 1);
  const at::Tensor mean_D = matrix.to(at::kDouble).mean(0).to(at::kFloat);
  EXPECT_TRUE(at::equal(preprocess(matrix, centred), matrix - mean_D));
  EXPECT_THROW(snapshot_statistics(matrix, "scale"), UsageError);
}

TEST(Preprocess, DoesNotDivideAConstantSnapshotByZero) {
  const auto statistics = snapshot_statistics(at::full({50, 4}, 2.0f), "center_scale");
  EXPECT_FLOAT_EQ(statistics.scale, 1e-4f);
  EXPECT_TRUE(at::equal(preprocess(at::full({50, 4}, 2.0f), statistics), at::zeros({50, 4})));
}

TEST(Preprocess, OfAStackIsThatOfItsSnapshots) {
  const TemporaryFolder folder;
  const std::vector<at::Tensor> matrices{toy::normal({30, 4}, 0, "a"),
                                         toy::normal({30, 4}, 0, "b") * 7};
  toy::write_stack(folder / "s", matrices);
  const auto stack =
      preprocess_stack(trajectories::Stack(folder / "s"), {1, 0}, "center_scale", at::kCPU);
  for (std::int64_t k = 0; k < 2; ++k) {
    const at::Tensor& matrix = matrices[static_cast<std::size_t>(1 - k)];
    const auto statistics = snapshot_statistics(matrix, "center_scale");
    EXPECT_TRUE(at::equal(stack.x_VKD.select(1, k), preprocess(matrix, statistics)));
    EXPECT_TRUE(at::equal(stack.statistics[static_cast<std::size_t>(k)].mean_D, statistics.mean_D));
    EXPECT_EQ(stack.statistics[static_cast<std::size_t>(k)].scale, statistics.scale);
  }
}

}  // namespace
}  // namespace cresco::dictionaries
