#include "cresco/lifecycle/norm_lifecycle.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace cresco::lifecycle {
namespace {

const std::vector<std::int64_t> kSteps{0,   1,   2,   4,    8,    16,   32,   64,
                                       128, 256, 512, 1000, 2000, 4000, 8000, 16000};

// One feature per function of tau in [0, 1].
at::Tensor norms(const std::vector<std::function<double(double)>>& features) {
  const auto tau = log_time(kSteps);
  at::Tensor out =
      at::empty({static_cast<std::int64_t>(tau.size()), static_cast<std::int64_t>(features.size())},
                at::kDouble);
  for (std::size_t k = 0; k < tau.size(); ++k)
    for (std::size_t f = 0; f < features.size(); ++f)
      out[static_cast<std::int64_t>(k)][static_cast<std::int64_t>(f)] = features[f](tau[k]);
  return out;
}

TEST(LogTime, RunsFromZeroToOne) {
  const auto tau = log_time({0, 9, 99});
  EXPECT_DOUBLE_EQ(tau[0], 0);
  EXPECT_DOUBLE_EQ(tau[1], 0.5);
  EXPECT_DOUBLE_EQ(tau[2], 1);
  EXPECT_EQ(log_time({512}), std::vector<double>{0});
}

TEST(NormLifecycle, KnowsTheProfiles) {
  const auto life =
      norm_lifecycles(norms({[](double) { return 0.8; },
                             [](double t) { return 0.5 * std::clamp(1.2 - 2 * t, 0.02, 1.0); },
                             [](double t) { return 0.3 * std::clamp(2 * t - 0.8, 0.02, 1.0); },
                             [](double t) { return 0.7 * std::exp(-50 * (t - 0.5) * (t - 0.5)); },
                             [](double t) { return t < 0.5 ? 0.4 : 0.4 + 0.4 * std::sin(20 * t); },
                             [](double) { return 0.005; }}),
                      kSteps);
  EXPECT_EQ(life[0].profile, Profile::Persistent);
  EXPECT_EQ(life[1].profile, Profile::EarlyDecaying);
  EXPECT_EQ(life[2].profile, Profile::LateEmerging);
  EXPECT_EQ(life[3].profile, Profile::Transitional);
  EXPECT_EQ(life[4].profile, Profile::Mixed);
  EXPECT_TRUE(life[4].alive);
  EXPECT_FALSE(life[5].alive);
  EXPECT_EQ(name_of(life[1].profile), "early-decaying");
}

TEST(NormLifecycle, IsBornAfterTheStartAndDiesBeforeTheEnd) {
  const at::Tensor columns = at::tensor({1.0, 1.0, 0.0, 0.1, 0.9,   //
                                         1.0, 0.5, 0.0, 0.6, 0.2,   //
                                         1.0, 0.2, 0.0, 0.6, 0.2,   //
                                         1.0, 0.1, 0.0, 1.0, 0.8},  //
                                        at::kDouble)
                                 .reshape({4, 5});
  const auto life = norm_lifecycles(columns, {0, 10, 100, 1000});
  EXPECT_FALSE(life[0].born.has_value());  // alive from snapshot 0 to the end
  EXPECT_FALSE(life[0].died.has_value());
  EXPECT_FALSE(life[1].born.has_value());
  EXPECT_EQ(life[1].died, 1);
  EXPECT_FALSE(life[2].alive);  // a decoder row of zeros
  EXPECT_FALSE(life[2].born.has_value());
  EXPECT_EQ(life[3].born, 1);
  EXPECT_FALSE(life[3].died.has_value());
  EXPECT_FALSE(life[4].born.has_value());  // it was there at both ends
  EXPECT_FALSE(life[4].died.has_value());
  EXPECT_EQ(life[4].peak, 0);
}

}  // namespace
}  // namespace cresco::lifecycle
