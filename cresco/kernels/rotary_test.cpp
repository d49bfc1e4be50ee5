#include "cresco/kernels/rotary.h"

#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace cresco::kernels {
namespace {

constexpr RotarySizes kSizes{.positions = 5, .heads = 3, .head_size = 10, .rotated = 6};
constexpr std::int64_t kTokens = 2 * kSizes.positions,
                       kNumbers = kTokens * kSizes.heads * 3 * kSizes.head_size;

std::vector<double> numbers(const char* what, std::int64_t count) {
  RandomStream random(0, what);
  std::vector<double> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(random.normal());
  return all;
}

struct Table {
  std::vector<double> cos, sin;
  Table() {
    for (std::int64_t t = 0; t < kSizes.positions; ++t)
      for (std::int64_t j = 0; j < kSizes.rotated; ++j) {
        const double angle = static_cast<double>(t) /
                             std::pow(100.0, static_cast<double>(j % (kSizes.rotated / 2)) / 3);
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
      }
  }
};

std::vector<double> rotated(std::vector<double> qkv) {
  const Table table;
  const Rotary<double> a{kSizes, table.cos.data(), table.sin.data(), qkv.data()};
  rotate(Place{}, a, 0, 3);
  rotate(Place{}, a, 3, kTokens);
  return qkv;
}

TEST(Rotary, TurnsPairsByTheAngleOfTheirPosition) {
  const std::vector<double> x = numbers("x", kNumbers), y = rotated(x);
  const Table table;
  for (std::int64_t i = 0; i < kNumbers; ++i) {
    const std::int64_t c = i % kSizes.head_size, part = i / kSizes.head_size % 3;
    const std::int64_t token = i / (kSizes.head_size * 3 * kSizes.heads), half = kSizes.rotated / 2;
    const auto at = static_cast<std::size_t>(i);
    if (part == 2 || c >= kSizes.rotated) {
      EXPECT_EQ(y[at], x[at]);
    } else if (c < half) {  // x + iy times e^(i angle)
      const auto angle = static_cast<std::size_t>(token % kSizes.positions * kSizes.rotated + c);
      const double first = x[at], second = x[at + static_cast<std::size_t>(half)];
      EXPECT_NEAR(y[at], first * table.cos[angle] - second * table.sin[angle], 1e-15);
      EXPECT_NEAR(y[at + static_cast<std::size_t>(half)],
                  first * table.sin[angle] + second * table.cos[angle], 1e-15);
    }
  }
}

template <class Number>
class RotaryOfSmallFloats : public testing::Test {};
using SmallFloats = testing::Types<Bf16, Fp16>;
TYPED_TEST_SUITE(RotaryOfSmallFloats, SmallFloats);

TYPED_TEST(RotaryOfSmallFloats, RoundsItsResultsOnly) {
  const std::vector<double> x = numbers("x", kNumbers);
  const Table table;
  const std::vector<float> cos(table.cos.begin(), table.cos.end()),
      sin(table.sin.begin(), table.sin.end());
  std::vector<TypeParam> small(x.size());
  std::vector<double> read;
  for (std::size_t i = 0; i < x.size(); ++i) {
    write(&small[i], static_cast<float>(x[i]));
    read.push_back(wide(small[i]));
  }
  const std::vector<double> exact = rotated(read);
  rotate(Place{}, Rotary<TypeParam>{kSizes, cos.data(), sin.data(), small.data()}, 0, kTokens);
  const double unit = std::is_same_v<TypeParam, Bf16> ? 0x1p-9 : 0x1p-12;
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_NEAR(wide(small[i]), exact[i], 2 * unit * std::abs(exact[i]) + 1e-6);
}

TEST(Rotary, ItsGradientTurnsBack) {
  // <g, rotate(x)> = <rotate_gradient(g), x> for all x and g; g in a layout of its own.
  const std::vector<double> x = numbers("x", kNumbers), y = rotated(x);
  const std::int64_t T = kSizes.positions, H = kSizes.heads, C = kSizes.head_size;
  std::vector<double> part[3], back(static_cast<std::size_t>(kNumbers));
  for (int i = 0; i < 3; ++i) part[i] = numbers(i == 0 ? "q" : i == 1 ? "k" : "v", 2 * H * T * C);
  const Table table;
  const auto of = [&](int i) {  // (N, H, T, C)
    return HeadGradients<double>{part[i].data(), H * T * C, T * C, C};
  };
  const RotaryGradient<double> a{kSizes, table.cos.data(), table.sin.data(), of(0), of(1),
                                 of(2),  back.data()};
  rotate_gradient(Place{}, a, 0, 4);
  rotate_gradient(Place{}, a, 4, kTokens);
  double forth = 0, returned = 0;
  for (std::int64_t i = 0; i < kNumbers; ++i) {
    const std::int64_t c = i % C, p = i / C % 3, h = i / (3 * C) % H, token = i / (3 * C * H);
    const auto at = static_cast<std::size_t>(i);
    const auto from = static_cast<std::size_t>(((token / T * H + h) * T + token % T) * C + c);
    forth += part[p][from] * y[at];
    returned += back[at] * x[at];
    if (p == 2) {
      EXPECT_EQ(back[at], part[2][from]);
    }
  }
  EXPECT_NEAR(forth, returned, 1e-12);
}

}  // namespace
}  // namespace cresco::kernels
