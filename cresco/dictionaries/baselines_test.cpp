#include "cresco/dictionaries/baselines.h"

#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace cresco::dictionaries {
namespace {

// Four snapshots of 60 rows, of few strong directions and some noise, far from 0.
struct Setting {
  TemporaryFolder folder;
  std::vector<at::Tensor> matrices;
  trajectories::Stack stack{write()};

  Path write() {
    const at::Tensor scores = toy::normal({60, 4}, 0, "scores");
    for (int k = 0; k < 4; ++k)
      matrices.push_back(scores.mm(toy::normal({4, 10}, 0, "d" + std::to_string(k))) * (1.0 + k) +
                         0.2 * toy::normal({60, 10}, 0, "n" + std::to_string(k)) + 30);
    toy::write_stack(folder / "s", matrices);
    return folder / "s";
  }
  StackRows rows(std::int64_t block_bytes = 3000) const {
    return StackRows(stack, {0, 1, 2, 3}, "center_scale", block_bytes);
  }
  at::Tensor centred(std::size_t k) const {
    const at::Tensor x = matrices[k].to(at::kDouble);
    return x - x.mean(0);
  }
};

double share_of_squares(const at::Tensor& a, std::int64_t rank) {
  const at::Tensor squared = at::linalg_svdvals(a).square();
  return (squared.narrow(0, 0, rank).sum() / squared.sum()).item<double>();
}

TEST(Baselines, OfASnapshotAreItsSingularValues) {
  const Setting s;
  for (std::int64_t k = 0; k < 4; ++k) {
    const Spectrum spectrum = snapshot_spectrum(s.rows(), k);
    for (const std::int64_t rank : {1, 3, 7, 10})
      EXPECT_NEAR(spectrum.explained_variance(rank),
                  share_of_squares(s.centred(std::size_t(k)), rank), 1e-10);
    EXPECT_NEAR(spectrum.explained_variance(500), 1, 1e-12);
    EXPECT_EQ(spectrum.explained_variance(0), 0);
  }
}

TEST(Baselines, OfTheTrajectoryComeNearTheExactOnesFromBelow) {
  const Setting s;
  const at::Tensor a =
      at::cat({s.centred(0), s.centred(1), s.centred(2), s.centred(3)}, 1);  // (60, 40)
  // A sketch as wide as the matrix leaves nothing out.
  const Spectrum whole = randomized_spectrum(s.rows(), 0);
  for (const std::int64_t rank : {1, 4, 16, 40})
    EXPECT_NEAR(whole.explained_variance(rank), share_of_squares(a, rank), 1e-6);
  const Spectrum narrow = randomized_spectrum(s.rows(), 0, 12);
  for (const std::int64_t rank : {1, 2, 4}) {
    EXPECT_LE(narrow.explained_variance(rank), share_of_squares(a, rank) + 1e-6);
    EXPECT_NEAR(narrow.explained_variance(rank), share_of_squares(a, rank), 2e-3);
  }
  // A function of the seed, whatever the blocks.
  EXPECT_NEAR(randomized_spectrum(s.rows(1 << 20), 0, 12).explained_variance(10),
              narrow.explained_variance(10), 1e-6);
  EXPECT_NE(randomized_spectrum(s.rows(), 1, 12).explained_variance(10),
            narrow.explained_variance(10));
}

TEST(Baselines, DrawALineThroughTheEndpointsOfEachRow) {
  const Setting s;
  const auto lines = endpoint_lines(s.rows());
  ASSERT_EQ(lines.size(), 4u);
  for (const std::size_t end : {0, 3}) {
    EXPECT_NEAR(lines[end].explained_variance, 1, 1e-12);
    EXPECT_NEAR(lines[end].row.p10, 1, 1e-12);
    EXPECT_NEAR(lines[end].alpha.mean, end == 0 ? 0 : 1, 1e-12);
  }
  // The second snapshot by hand, row by row.
  const at::Tensor a = s.matrices[0].to(at::kDouble), b = s.matrices[3].to(at::kDouble);
  const at::Tensor x = s.matrices[1].to(at::kDouble);
  double error = 0;
  std::vector<double> alphas, shares;
  for (std::int64_t v = 0; v < 60; ++v) {
    const at::Tensor way = b[v] - a[v];
    alphas.push_back(((x[v] - a[v]).dot(way) / way.dot(way)).item<double>());
    const double row = (a[v] + alphas.back() * way - x[v]).square().sum().item<double>();
    shares.push_back(1 - row / s.centred(1)[v].square().sum().item<double>());
    error += row;
  }
  EXPECT_NEAR(lines[1].explained_variance, 1 - error / s.centred(1).square().sum().item<double>(),
              1e-12);
  const at::Tensor alpha_V = at::tensor(alphas, at::kDouble);
  EXPECT_NEAR(lines[1].alpha.mean, alpha_V.mean().item<double>(), 1e-12);
  EXPECT_NEAR(lines[1].alpha.deviation, alpha_V.std().item<double>(), 1e-12);
  std::sort(shares.begin(), shares.end());
  EXPECT_NEAR(lines[1].row.p50, (shares[29] + shares[30]) / 2, 1e-12);
  EXPECT_NEAR(lines[1].row.p10, shares[5] * 0.1 + shares[6] * 0.9, 1e-12);  // at 0.1 * 59
}

}  // namespace
}  // namespace cresco::dictionaries
