#include "cresco/lifecycle/cusum.h"

#include "cresco/base/require.h"
#include "cresco/dictionaries/toy_stack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace cresco::lifecycle {
namespace {

using dictionaries::toy::normal;

TEST(CusumMax, IsTheLargestDepartureFromTheMean) {
  const at::Tensor x_KF = at::tensor({0., 4., 0., 4., 1., 4., 3., 4.}).view({4, 2});
  // About the mean 1: -1, -2, -2, 0. A constant series never departs.
  EXPECT_TRUE(at::equal(cusum_max(x_KF), at::tensor({2., 0.})));
  EXPECT_TRUE(at::equal(cusum_max(at::zeros({0, 3})), at::zeros({3}, at::kDouble)));
}

// The definition, one number after the other.
double slow_break(const at::Tensor& rates_KF) {
  const std::int64_t K = rates_KF.size(0), F = rates_KF.size(1);
  const std::int64_t n = std::min<std::int64_t>(10, std::max<std::int64_t>(K / 3, 2));
  const auto rate = [&](std::int64_t k, std::int64_t f) { return rates_KF[k][f].item<double>(); };
  const auto lower_median = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[(v.size() - 1) / 2];
  };
  std::vector<double> mean, deviation, above;
  for (std::int64_t f = 0; f < F; ++f) {
    std::vector<double> first, apart;
    double sum = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      first.push_back(rate(k, f));
      sum += rate(k, f);
    }
    for (const double r : first) apart.push_back(std::abs(r - lower_median(first)));
    mean.push_back(sum / static_cast<double>(n));
    deviation.push_back(1.4826 * lower_median(apart));
    if (deviation.back() > 0) above.push_back(deviation.back());
  }
  std::sort(above.begin(), above.end());
  double floor = 1e-8;
  if (!above.empty()) {
    const double at = 0.25 * static_cast<double>(above.size() - 1);
    const auto i = static_cast<std::size_t>(std::floor(at));
    const double next = i + 1 < above.size() ? above[i + 1] : above[i];
    floor = std::max(floor, above[i] + (at - std::floor(at)) * (next - above[i]));
  }
  double largest = -1e300;
  for (std::int64_t f = 0; f < F; ++f) {
    double sum = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const auto i = static_cast<std::size_t>(f);
      sum += (rate(k, f) - mean[i]) / std::max(deviation[i], floor);
      largest = std::max(largest, sum);
    }
  }
  return largest;
}

TEST(CusumBreak, IsItsDefinition) {
  for (const std::int64_t K : {9, 12, 32}) {
    at::Tensor rates_KF = normal({K, 11}, 0, "rates").abs().to(at::kDouble);
    rates_KF.select(1, 3).fill_(0.25);  // no deviation: the floor
    rates_KF.select(1, 4).narrow(0, 0, 6).fill_(0);
    EXPECT_NEAR(cusum_break(rates_KF), slow_break(rates_KF), 1e-9 * slow_break(rates_KF));
  }
}

// Significance 0.01, 999 permutations, fixed seeds.
TEST(CusumNull, FindsABreakAndNothingInNoise) {
  const at::Tensor noise_KF = (0.3 + 0.02 * normal({24, 30}, 1, "rates")).to(at::kDouble);
  const CusumNull quiet = cusum_null(noise_KF, 999, 0, no_progress());
  EXPECT_GT(quiet.p_value, 0.01);
  at::Tensor broken_KF = noise_KF.clone();
  broken_KF.select(1, 7).narrow(0, 12, 12).add_(1);
  const CusumNull loud = cusum_null(broken_KF, 999, 0, no_progress());
  EXPECT_LT(loud.p_value, 0.01);
  EXPECT_EQ(loud.num_permutations, 999);
  EXPECT_DOUBLE_EQ(loud.p_value, (1.0 + static_cast<double>(loud.num_at_least)) / 1000);
  EXPECT_DOUBLE_EQ(loud.observed, cusum_break(broken_KF));
  for (const CusumNull& null : {quiet, loud}) {
    EXPECT_LE(null.mean, null.p95);
    EXPECT_LE(null.p95, null.p99);
    EXPECT_LE(null.p99, null.max);
    EXPECT_GT(null.deviation, 0);
  }
  // A function of the seed.
  EXPECT_EQ(cusum_null(noise_KF, 50, 5, no_progress()).mean,
            cusum_null(noise_KF, 50, 5, no_progress()).mean);
  EXPECT_NE(cusum_null(noise_KF, 50, 5, no_progress()).mean,
            cusum_null(noise_KF, 50, 6, no_progress()).mean);
  EXPECT_THROW(cusum_null(noise_KF.narrow(0, 0, 8), 10, 0, no_progress()), Error);
}

}  // namespace
}  // namespace cresco::lifecycle
