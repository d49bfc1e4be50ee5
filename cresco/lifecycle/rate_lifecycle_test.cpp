#include "cresco/lifecycle/rate_lifecycle.h"

#include "cresco/lifecycle/decoder_geometry.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace cresco::lifecycle {
namespace {

at::Tensor column(std::vector<double> values) {
  return at::tensor(values, at::kDouble).unsqueeze(1);
}

RateLifecycle of(std::vector<double> rates, const RateRule& rule = {}) {
  const auto K = static_cast<std::int64_t>(rates.size());
  return rate_lifecycles(column(rates), at::ones({K, 1}, at::kDouble),
                         at::full({K - 1, 1}, 0.01, at::kDouble), at::zeros({K, 1}, at::kDouble),
                         rule)[0];
}

TEST(RateLifecycle, NeedsTwoActiveSnapshotsInARow) {
  const auto life = of({0, 0.5, 0, 0.4, 0.5, 0.5, 0.3, 0.3});
  EXPECT_EQ(life.first_active, 3);
  EXPECT_EQ(life.peak, 5);  // the latest of equals
  EXPECT_DOUBLE_EQ(life.lifetime, 6.0 / 8);
  EXPECT_EQ(life.stabilized, 6);
  EXPECT_NEAR(life.drift, 0.01, 1e-12);
}

TEST(RateLifecycle, OfAFeatureThatNeverFiresIsNever) {
  const auto life = of({0, 0, 0, 0});
  EXPECT_EQ(life.first_active, 4);
  EXPECT_EQ(life.peak, 4);
  EXPECT_EQ(life.lifetime, 0);
  EXPECT_EQ(life.stabilized, 4);
  EXPECT_TRUE(std::isnan(life.drift));
}

TEST(RateLifecycle, BelowTheFloorIsNever) {
  const auto life = of({5e-5, 9e-5, 5e-5, 5e-5});
  EXPECT_EQ(life.first_active, 4);
  EXPECT_EQ(life.peak, 1);
  EXPECT_EQ(life.lifetime, 0);
}

TEST(RateLifecycle, OneSnapshotIsEnough) {
  const auto life = of({0.5}, {.consecutive = 1});
  EXPECT_EQ(life.first_active, 0);
  EXPECT_EQ(life.stabilized, 0);
  EXPECT_EQ(life.drift, 0);
}

// Unit vectors at 60, 40, 20 and 0 degrees, firing at a constant rate.
TEST(RateLifecycle, StabilizesByDistanceToTheLastDirectionOrByRotation) {
  std::vector<float> decoder;
  for (const double degrees : {60, 40, 20, 0}) {
    decoder.push_back(static_cast<float>(std::cos(degrees * std::numbers::pi / 180)));
    decoder.push_back(static_cast<float>(std::sin(degrees * std::numbers::pi / 180)));
  }
  const at::Tensor decoder_KFD = at::tensor(decoder).reshape({4, 1, 2});
  const at::Tensor rates = at::full({4, 1}, 0.3, at::kDouble),
                   rotation = adjacent_rotation(decoder_KFD);
  const RateRule rule{.consecutive = 1, .direction_tolerance = 0.1};
  const auto with = [&](const at::Tensor& direction) {
    return rate_lifecycles(rates, decoder_norms(decoder_KFD), rotation, direction, rule)[0]
        .stabilized;
  };
  EXPECT_EQ(with(distance_to_terminal(decoder_KFD)), 2);
  EXPECT_EQ(with(rotation), 0);
}

TEST(RateRotation, IsPearsonsOverFeaturesAndPairs) {
  const at::Tensor rates_KF = at::tensor({0., 1., .5, .2, .1, .2}, at::kDouble).view({3, 2});
  // |differences| are .5 .8 .4 0
  const at::Tensor rotation_JF = at::tensor({.2, .4, .1, .3}, at::kDouble).view({2, 2});
  const double x[] = {.5, .8, .4, 0}, y[] = {.2, .4, .1, .3};
  double mx = 0, my = 0, xy = 0, xx = 0, yy = 0;
  for (int i = 0; i < 4; ++i) mx += x[i] / 4, my += y[i] / 4;
  for (int i = 0; i < 4; ++i) {
    xy += (x[i] - mx) * (y[i] - my);
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
  }
  EXPECT_NEAR(rate_rotation_correlation(rates_KF, rotation_JF), xy / std::sqrt(xx * yy), 1e-12);
  EXPECT_TRUE(std::isnan(rate_rotation_correlation(rates_KF, at::ones({2, 2}, at::kDouble))));
}

}  // namespace
}  // namespace cresco::lifecycle
