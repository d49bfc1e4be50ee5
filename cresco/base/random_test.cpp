#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace cresco {
namespace {

// Known answers of the generator's authors (Random123, kat_vectors: philox4x32 10).
TEST(Philox, GivesTheKnownAnswers) {
  using Counter = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, DependsOnSeedPurposeAndStep) {
  const auto first = [](std::uint64_t seed, const char* purpose, std::uint64_t step) {
    return RandomStream(seed, purpose, step).next64();
  };
  EXPECT_EQ(first(1, "init", 0), first(1, "init", 0));
  EXPECT_NE(first(1, "init", 0), first(2, "init", 0));
  EXPECT_NE(first(1, "init", 0), first(1, "order", 0));
  EXPECT_NE(first(1, "init", 0), first(1, "init", 1));
}

// 200,000 draws: the mean of normals is within 4.5 standard errors, as is their variance (p <
// 1e-5).
TEST(RandomStream, NormalsHaveTheirMoments) {
  constexpr int kDraws = 200'000;
  std::vector<float> x(kDraws);
  RandomStream(3, "test").fill_normal(x, 0, 1);
  double sum = 0, squares = 0;
  for (const float v : x) {
    sum += v;
    squares += double{v} * v;
  }
  EXPECT_LT(std::abs(sum / kDraws), 4.5 / std::sqrt(kDraws));
  EXPECT_LT(std::abs(squares / kDraws - 1), 4.5 * std::sqrt(2.0 / kDraws));
}

// Chi-squared over 10 cells, 100,000 draws: below 33.7 with probability 0.9999.
TEST(RandomStream, BelowIsUniform) {
  RandomStream stream(5, "test");
  std::vector<int> count(10);
  for (int i = 0; i < 100'000; ++i) ++count[stream.below(10)];
  double chi = 0;
  for (const int c : count) chi += (c - 10'000.0) * (c - 10'000.0) / 10'000.0;
  EXPECT_LT(chi, 33.7);
}

TEST(Permutation, HoldsEachNumberOnce) {
  auto order = permutation(1000, RandomStream(1, "order"));
  EXPECT_NE(order, permutation(1000, RandomStream(1, "order", 1)));
  std::sort(order.begin(), order.end());
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
}

}  // namespace
}  // namespace cresco
