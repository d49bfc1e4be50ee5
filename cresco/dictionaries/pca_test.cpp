#include "cresco/dictionaries/pca.h"

#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

at::Tensor centred(std::int64_t V, std::int64_t K, std::int64_t D) {
  const at::Tensor x = toy::normal({V, K, D}, 0, "x");
  return x - x.mean(0);
}

TEST(TrajectorySpectrum, IsThatOfTheSvdWhicheverSideIsSmaller) {
  for (const std::int64_t V : {20, 200}) {
    const at::Tensor x_VKD = centred(V, 3, 10);
    const TrajectorySpectrum spectrum(rows_in_memory(x_VKD), 4096);
    const at::Tensor squared = at::linalg_svdvals(x_VKD.flatten(1).to(at::kDouble)).square();
    for (const std::int64_t rank : {1, 5, 12})
      EXPECT_NEAR(spectrum.explained_variance(rank),
                  squared.narrow(0, 0, rank).sum().item<double>() / squared.sum().item<double>(),
                  1e-9);
    EXPECT_NEAR(spectrum.explained_variance(1000), 1, 1e-12);
  }
}

TEST(TrajectorySpectrum, HasScoresAndLoadingsThatReachIt) {
  for (const std::int64_t V : {20, 200}) {
    const at::Tensor x_VKD = centred(V, 3, 10);
    const TrajectorySpectrum spectrum(rows_in_memory(x_VKD), 4096);
    const TrajectoryPca pca = spectrum.at_rank(6);
    const at::Tensor r_VKD = at::einsum("vr,krd->vkd", {pca.scores_VR, pca.loadings_KRD});
    EXPECT_NEAR(1 - ((x_VKD - r_VKD).square().sum() / x_VKD.square().sum()).item<double>(),
                spectrum.explained_variance(6), 1e-5);
  }
}

}  // namespace
}  // namespace cresco::dictionaries
