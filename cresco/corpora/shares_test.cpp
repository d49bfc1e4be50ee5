#include "cresco/corpora/shares.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cresco::corpora {
namespace {

const std::vector<std::vector<double>> kMixtures{{1},          {0.7, 0.3},
                                                 {0.5, 0.5},   {1, 1, 1},
                                                 {3, 1},       {0.9, 0.05, 0.05},
                                                 {0.62, 0.38}, {1e-3, 1, 7},
                                                 {5, 3, 2, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 90}};

// Seat by seat, from the first on.
TEST(Shares, AreThoseOfTheSequenceFromTheStart) {
  for (const auto& weights : kMixtures) {
    const Shares shares(weights);
    std::vector<std::int64_t> had(weights.size());
    for (std::int64_t place = 0; place < 3000; ++place) {
      EXPECT_EQ(shares.counts(place), had);
      std::size_t best = 0;
      for (std::size_t s = 1; s < had.size(); ++s)
        if ((static_cast<double>(had[s]) + 0.5) / shares.share(s) <
            (static_cast<double>(had[best]) + 0.5) / shares.share(best))
          best = s;
      const Shares::Place expected{best, had[best]};
      ASSERT_EQ(shares.at(place), expected) << place;
      ++had[best];
    }
  }
}

TEST(Shares, AreExactAtAnyPlace) {
  for (const auto& weights : kMixtures) {
    const Shares shares(weights);
    const auto k = static_cast<double>(weights.size());
    for (const std::int64_t n : {1LL, 10LL, 999LL, 1024LL * 143'000, 1LL << 40}) {
      const auto counts = shares.counts(n);
      std::int64_t sum = 0;
      for (std::size_t s = 0; s < counts.size(); ++s) {
        sum += counts[s];
        EXPECT_LE(
            std::abs(static_cast<double>(counts[s]) - shares.share(s) * static_cast<double>(n)),
            0.5 + shares.share(s) * k / 2 + 1e-3)
            << n;
      }
      EXPECT_EQ(sum, n);
    }
  }
  EXPECT_EQ(Shares({0.7, 0.3}).counts(10), (std::vector<std::int64_t>{7, 3}));
  EXPECT_EQ(Shares({7, 3}).counts(1'000'000'000),
            (std::vector<std::int64_t>{700'000'000, 300'000'000}));
}

TEST(Shares, FollowOnFarFromTheStart) {
  const Shares shares({0.62, 0.3, 0.08});
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  auto had = shares.counts(kFar);
  for (std::int64_t place = kFar; place < kFar + 1000; ++place) {
    const auto [source, index] = shares.at(place);
    EXPECT_EQ(index, had[source]++);
    EXPECT_EQ(shares.counts(place + 1), had);
  }
}

TEST(Shares, RefuseWeightsThatAreNone) {
  for (const double wrong : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(), 1e-12})
    EXPECT_THROW(Shares({1, wrong}), UsageError) << wrong;
  EXPECT_THROW(Shares({}), UsageError);
  EXPECT_THROW(Shares({1, 1}).at(-1), Error);
  EXPECT_THROW(Shares({1, 1}).at(INT64_MAX), Error);
}

}  // namespace
}  // namespace cresco::corpora
