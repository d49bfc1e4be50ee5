#include "cresco/report/axis.h"

#include "cresco/report/numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cresco::report {
namespace {

std::vector<std::string> labels(Scale scale, const std::vector<double>& values, int most = 6) {
  std::vector<std::string> out;
  const AxisLayout axis({"", scale}, values, 0, 100, most);
  for (const Tick& tick : axis.ticks()) out.push_back(tick.label);
  return out;
}

using Labels = std::vector<std::string>;

TEST(Axis, TicksAreRoundNumbers) {
  EXPECT_EQ(labels(Scale::Linear, {0, 10}), (Labels{"0", "2", "4", "6", "8", "10"}));
  EXPECT_EQ(labels(Scale::Linear, {0.3, 0.7}), (Labels{"0", "0.2", "0.4", "0.6", "0.8"}));
  EXPECT_EQ(labels(Scale::Linear, {0.81, 0.84}),
            (Labels{"0.81", "0.815", "0.82", "0.825", "0.83", "0.835", "0.84"}));
  EXPECT_EQ(labels(Scale::LogOnePlus, {0, 143000}),
            (Labels{"0", "1", "10", "100", "1,000", "10k", "100k"}));
  EXPECT_EQ(labels(Scale::LogOnePlus, {0, 64}), (Labels{"0", "1", "2", "5", "10", "20", "50"}));
  EXPECT_EQ(labels(Scale::Log, {1e-5, 1}), (Labels{"1e-5", "0.0001", "0.001", "0.01", "0.1", "1"}));
  EXPECT_EQ(labels(Scale::Log, {3, 30}), (Labels{"5", "10", "20"}));
}

TEST(Axis, ZeroHasItsPlaceOnALogAxis) {
  const AxisLayout axis({"", Scale::Log}, {0, 100, 1e6}, 0, 100, 6);
  EXPECT_EQ(axis.place(0), 0);
  EXPECT_GT(axis.place(100), 5);
  EXPECT_EQ(axis.ticks().front().label, "0");
  EXPECT_FALSE(axis.shows(-1));
}

// Later values stand further along, inside the axis, for every scale.
TEST(Axis, KeepsOrderAndBounds) {
  for (const Scale scale : {Scale::Linear, Scale::Log, Scale::LogOnePlus}) {
    const std::vector<double> values = {0.5, 1, 7, 80, 900};
    const AxisLayout axis({"", scale}, values, 200, 10, 6);
    double last = 200.001;
    for (const double value : values) {
      EXPECT_LT(axis.place(value), last);
      EXPECT_GE(axis.place(value), 10 - 1e-9);
      last = axis.place(value);
    }
  }
}

// Numbers from anybody's file: nothing hangs, and every tick has a place.
TEST(Axis, TakesAnyNumbers) {
  constexpr double kMost = std::numeric_limits<double>::max(),
                   kLeast = std::numeric_limits<double>::denorm_min();
  const std::vector<std::vector<double>> cases = {{},
                                                  {NAN},
                                                  {INFINITY, -INFINITY},
                                                  {0},
                                                  {0, 0},
                                                  {5},
                                                  {-3, -3},
                                                  {kLeast, kMost},
                                                  {-kMost, kMost},
                                                  {1e17, 1e17 + 32},
                                                  {kMost},
                                                  {kLeast},
                                                  {1, 1 + 1e-16}};
  for (const auto& values : cases)
    for (const Scale scale : {Scale::Linear, Scale::Log, Scale::LogOnePlus}) {
      const AxisLayout axis({"", scale}, values, 0, 100, 6);
      EXPECT_LT(axis.ticks().size(), 1000u);
    }
}

TEST(Numbers, AreWrittenForPeople) {
  EXPECT_EQ(tick_label(1e-5), "1e-5");
  EXPECT_EQ(tick_label(0.1 + 0.2), "0.3");
  EXPECT_EQ(tick_label(20000), "20k");
  EXPECT_EQ(tick_label(1.5e9), "1.5G");
  EXPECT_EQ(short_number(NAN), "–");
  EXPECT_EQ(short_number(0.123456), "0.1235");
  EXPECT_EQ(short_number(1234567), "1,234,567");
  EXPECT_EQ(whole_number(-1000), "-1,000");
  EXPECT_EQ(whole_number(999), "999");
}

}  // namespace
}  // namespace cresco::report
