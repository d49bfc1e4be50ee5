#include "cresco/kernels/softmax_loss.h"

#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace cresco::kernels {
namespace {

using Floats = std::vector<float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Problem {
  std::int64_t rows, columns;
  Floats x;
  std::vector<std::int64_t> target;
  double weight = 0.37;
};

Problem problem_of(std::int64_t rows, std::int64_t columns, double size) {
  Problem p{rows, columns, {}, {}};
  RandomStream random(0, "softmax");
  for (std::int64_t i = 0; i < rows * columns; ++i)
    p.x.push_back(static_cast<float>(random.normal() * size));
  for (std::int64_t r = 0; r < rows; ++r)
    p.target.push_back(
        r % 5 == 3 ? kIgnoredTarget
                   : static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(columns))));
  return p;
}

struct Result {
  std::vector<double> loss, gradient;
};

// The definition, in double.
Result reference(const Problem& p) {
  Result found;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const float* const x = p.x.data() + r * p.columns;
    const std::int64_t target = p.target[static_cast<std::size_t>(r)];
    const double largest = *std::max_element(x, x + p.columns);
    double sum = 0;
    for (std::int64_t c = 0; c < p.columns; ++c) sum += std::exp(x[c] - largest);
    const double log_sum = largest + std::log(sum);
    found.loss.push_back(target < 0 ? 0 : log_sum - x[target]);
    for (std::int64_t c = 0; c < p.columns; ++c)
      found.gradient.push_back(target < 0 ? 0
                                          : p.weight * (std::exp(x[c] - log_sum) - (c == target)));
  }
  return found;
}

// By blocks of `width` columns.
Result by_blocks(const Problem& p, std::int64_t width, Isa isa) {
  const std::int64_t count = (p.columns + width - 1) / width;
  const std::int64_t panels = num_column_panels(p.rows), rows = panels * kPanelWidth;
  const auto R = static_cast<std::size_t>(rows), N = static_cast<std::size_t>(count) * R;
  std::vector<std::int64_t> target = p.target;
  target.resize(R, kIgnoredTarget);
  Floats target_logit(R), largest(N), sum(N), factor(N);
  std::vector<Floats> blocks;
  const auto block = [&](std::int64_t n) {
    return SoftmaxBlock{.panels = panels,
                        .columns = std::min(width, p.columns - n * width),
                        .first = n * width,
                        .x = blocks[static_cast<std::size_t>(n)].data(),
                        .target_R = target.data(),
                        .target_logit_R = target_logit.data(),
                        .largest_R = largest.data() + n * rows,
                        .sum_R = sum.data() + n * rows,
                        .factor_R = factor.data() + n * rows};
  };
  const auto place = [](std::int64_t columns, std::int64_t r, std::int64_t c) {
    return static_cast<std::size_t>((r / kPanelWidth * columns + c) * kPanelWidth +
                                    r % kPanelWidth);
  };
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t first = n * width, columns = std::min(width, p.columns - first);
    blocks.emplace_back(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < p.rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        blocks.back()[place(columns, r, c)] =
            p.x[static_cast<std::size_t>(r * p.columns + first + c)];
    softmax_block(block(n), isa);
  }
  std::vector<double> loss(R);
  const SoftmaxMerge merge{.rows = rows,
                           .blocks = count,
                           .target_R = target.data(),
                           .target_logit_R = target_logit.data(),
                           .largest_NR = largest.data(),
                           .sum_NR = sum.data(),
                           .weight = p.weight,
                           .factor_NR = factor.data(),
                           .loss_R = loss.data()};
  softmax_merge(merge, 0, rows / 2);
  softmax_merge(merge, rows / 2, rows);
  Result found{{loss.begin(), loss.begin() + p.rows}, std::vector<double>(p.x.size())};
  for (std::int64_t n = 0; n < count; ++n) {
    const SoftmaxBlock b = block(n);
    softmax_gradient(b, static_cast<float>(p.weight), isa);
    for (std::int64_t r = 0; r < p.rows; ++r)
      for (std::int64_t c = 0; c < b.columns; ++c)
        found.gradient[static_cast<std::size_t>(r * p.columns + b.first + c)] =
            b.x[place(b.columns, r, c)];
  }
  return found;
}

template <class Number, class Gradient, class Read>
Result by_rows(const Problem& p, const Read& read) {
  const std::vector<Number> x(p.x.begin(), p.x.end());
  std::vector<Gradient> gradient(x.size());
  Result found{std::vector<double>(static_cast<std::size_t>(p.rows)), {}};
  softmax_rows(Place{}, SoftmaxRows<Number, Gradient>{.rows = p.rows,
                                                      .columns = p.columns,
                                                      .stride = p.columns,
                                                      .x_RV = x.data(),
                                                      .target_R = p.target.data(),
                                                      .weight = p.weight,
                                                      .gradient_RV = gradient.data(),
                                                      .loss_R = found.loss.data()});
  for (const Gradient& g : gradient) found.gradient.push_back(static_cast<double>(read(g)));
  return found;
}

double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  double square = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    square += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return square == 0 ? 0 : std::sqrt(square / size);
}

void expect_near(const Result& found, const Result& exact, double loss, double gradient) {
  for (std::size_t r = 0; r < exact.loss.size(); ++r)
    EXPECT_NEAR(found.loss[r], exact.loss[r], loss * std::max(1.0, std::abs(exact.loss[r])))
        << "row " << r;
  EXPECT_LE(relative_error(found.gradient, exact.gradient), gradient);
}

class SoftmaxBlocks : public testing::TestWithParam<Isa> {};

TEST_P(SoftmaxBlocks, AgreeWithTheDefinition) {
  struct {
    std::int64_t rows, columns, width;
  } const sizes[] = {{1, 1, 1},     {3, 7, 16},     {6, 64, 64},
                     {9, 1000, 96}, {4, 3001, 512}, {5, 130, 1}};
  for (const auto& [rows, columns, width] : sizes) {
    for (const double size : {1e-3, 3.0, 30.0, 1e4}) {
      SCOPED_TRACE(testing::Message()
                   << rows << " x " << columns << " by " << width << ", " << size);
      const Problem p = problem_of(rows, columns, size);
      expect_near(by_blocks(p, width, GetParam()), reference(p), 1e-6, 1e-6);
    }
  }
}

TEST_P(SoftmaxBlocks, ExponentialsAreWithinTwoUnitsInTheLastPlace) {
  // Two columns, the larger logit 0, so that what is left of the other is its exponential.
  const auto exp_of = [&](float y) {
    float x[2 * kPanelWidth] = {}, largest[kPanelWidth], sum[kPanelWidth];
    std::int64_t target[kPanelWidth];
    std::fill_n(x + kPanelWidth, kPanelWidth, y);
    std::fill_n(target, kPanelWidth, kIgnoredTarget);
    softmax_block(
        {.panels = 1, .columns = 2, .x = x, .target_R = target, .largest_R = largest, .sum_R = sum},
        GetParam());
    EXPECT_EQ(x[17], 1.0f);
    return x[kPanelWidth + 17];
  };
  double worst = 0;
  for (double y = -87.33; y < 0; y += 0.00237) {
    const auto exact = std::exp(static_cast<double>(static_cast<float>(y)));
    const float nearest = static_cast<float>(exact);
    const double unit = std::nextafter(nearest, 2.0f) - nearest;
    worst = std::max(worst, std::abs(exp_of(static_cast<float>(y)) - exact) / unit);
  }
  EXPECT_LE(worst, 2);
  EXPECT_EQ(exp_of(0), 1.0f);
  EXPECT_EQ(exp_of(-1e-30f), 1.0f);
  EXPECT_EQ(exp_of(-88), 0.0f);
  EXPECT_EQ(exp_of(-3e38f), 0.0f);
  EXPECT_EQ(exp_of(-kInfinity), 0.0f);
}

TEST_P(SoftmaxBlocks, WhatIsNoNumberMakesTheLossNone) {
  for (const float bad : {std::nanf(""), kInfinity}) {
    for (const std::int64_t at : {0, 20, 69}) {
      Problem p = problem_of(3, 70, 1);
      p.x[static_cast<std::size_t>(70 + at)] = bad;
      p.target = {1, 2, 3};
      const Result found = by_blocks(p, 32, GetParam());
      EXPECT_TRUE(std::isfinite(found.loss[0]) && std::isfinite(found.loss[2]));
      EXPECT_FALSE(std::isfinite(found.loss[1])) << bad << " at " << at;
      EXPECT_FALSE(std::isfinite(found.gradient[70 + 2]));
      // An ignored row says nothing, whatever it holds.
      p.target[1] = kIgnoredTarget;
      EXPECT_EQ(by_blocks(p, 32, GetParam()).gradient[static_cast<std::size_t>(70 + at)], 0);
    }
  }
  Problem p = problem_of(2, 40, 1);
  p.target = {0, 0};
  for (int c = 0; c < 40; ++c) p.x[static_cast<std::size_t>(c)] = -kInfinity;
  EXPECT_TRUE(std::isnan(by_blocks(p, 16, GetParam()).loss[0]));
  // Logits of -infinity beside numbers are only probabilities of 0, also where a block has no
  // others.
  p.x[0] = 2;
  EXPECT_NEAR(by_blocks(p, 16, GetParam()).loss[0], 0, 1e-12);
}

TEST_P(SoftmaxBlocks, LeaveNoDenormals) {
  Problem p = problem_of(2, 64, 1);
  p.weight = 1e-30;
  for (auto& x : p.x) x *= 30;
  const Result found = by_blocks(p, 16, GetParam());
  for (const double g : found.gradient) EXPECT_TRUE(g == 0 || std::abs(g) >= 1.17549435e-38);
}

INSTANTIATE_TEST_SUITE_P(, SoftmaxBlocks, testing::ValuesIn(available_isas()),
                         [](const auto& info) {
                           return info.param == Isa::X86_64 ? "x86_64" : name_of(info.param);
                         });

TEST(SoftmaxRows, AgreeWithTheDefinitionInEveryType) {
  const auto same = [](auto g) { return g; };
  const auto from_bf16 = [](Bf16 g) {
    const std::uint32_t bits = static_cast<std::uint32_t>(g.bits) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  };
  const auto from_fp16 = [](Fp16 g) {
    _Float16 x;
    std::memcpy(&x, &g.bits, sizeof x);
    return static_cast<float>(x);
  };
  for (const double size : {1e-3, 3.0, 1e4}) {
    const Problem p = problem_of(9, 1003, size);
    const Result exact = reference(p);
    expect_near(by_rows<double, double>(p, same), exact, 1e-13, 1e-13);
    expect_near(by_rows<float, float>(p, same), exact, 1e-6, 1e-6);
    expect_near(by_rows<float, Bf16>(p, from_bf16), exact, 1e-6, 4e-3);
    expect_near(by_rows<float, Fp16>(p, from_fp16), exact, 1e-6, 1e-3);
  }
  Problem p = problem_of(1, 40, 1);
  p.target = {0};
  for (auto& x : p.x) x = -kInfinity;
  EXPECT_TRUE(std::isnan(by_rows<float, float>(p, same).loss[0]));
}

}  // namespace
}  // namespace cresco::kernels
