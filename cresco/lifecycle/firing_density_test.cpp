#include "cresco/lifecycle/firing_density.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::lifecycle {
namespace {

TEST(FiringDensity, CountsQuarterDecadesAndTheSilentApart) {
  // Edges belong to the bin above them; a rate of 1 to the last.
  const at::Tensor rates =
      at::tensor({0.0, 1.0, std::pow(10, -0.25), 0.5, 0.1, 0.0999, 1e-2, 0.0}, at::kDouble);
  EXPECT_EQ(density_bins(rates), 8u);
  const FiringDensity density = firing_density(rates, 8);
  EXPECT_EQ(density.never, 2);
  EXPECT_EQ(density.counts, (std::vector<std::int64_t>{1, 0, 0, 1, 1, 0, 1, 2}));
  EXPECT_DOUBLE_EQ(density.log10_from(0), -2);
  EXPECT_DOUBLE_EQ(density.log10_from(7), -0.25);
}

TEST(FiringDensity, TakesADictionaryThatNeverFires) {
  const at::Tensor rates = at::zeros({5}, at::kDouble);
  EXPECT_EQ(density_bins(rates), 0u);
  const FiringDensity density = firing_density(rates, 0);
  EXPECT_EQ(density.never, 5);
  EXPECT_TRUE(density.counts.empty());
}

TEST(FiringDensity, LosesNoFeature) {
  at::manual_seed(1);
  const at::Tensor rates = at::rand({1000}, at::kDouble).pow(8);
  for (const std::size_t bins : {density_bins(rates), std::size_t{3}}) {
    const FiringDensity density = firing_density(rates, bins);
    std::int64_t all = density.never;
    for (const std::int64_t count : density.counts) all += count;
    EXPECT_EQ(all, 1000);
  }
}

}  // namespace
}  // namespace cresco::lifecycle
