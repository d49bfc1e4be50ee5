#include "cresco/report/markup.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::report {
namespace {

TEST(Markup, EscapesTextAndAttributes) {
  Markup out;
  out.open("p", {{"title", "a\"><b>"}}).text("<i>").leaf("circle", {{"cx", 1.5}, {"r", 2}}).close();
  EXPECT_EQ(out.str(),
            "<p title=\"a&quot;&gt;&lt;b&gt;\">&lt;i&gt;<circle cx=\"1.5\" r=\"2\"/></p>");
}

TEST(Coordinate, IsShortAndFinite) {
  EXPECT_EQ(coordinate(1.0), "1");
  EXPECT_EQ(coordinate(100.0), "100");
  EXPECT_EQ(coordinate(0.126), "0.13");
  EXPECT_EQ(coordinate(-0.001), "0");
  EXPECT_EQ(coordinate(NAN), "0");
  EXPECT_EQ(coordinate(INFINITY), "0");
}

}  // namespace
}  // namespace cresco::report
