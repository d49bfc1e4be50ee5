#include "cresco/report/png.h"

#include "cresco/base/require.h"
#include "cresco/report/color.h"

#include <gtest/gtest.h>

namespace cresco::report {
namespace {

TEST(Png, IsWellFormed) {
  const std::string image = png(2, 2, {0, 1, 1, 0}, {{0, 0, 0}, {255, 255, 255}});
  EXPECT_TRUE(image.starts_with("\x89PNG\r\n\x1a\n"));
  // The last chunk is the same in every PNG, its checksum too.
  EXPECT_TRUE(image.ends_with(std::string("\0\0\0\0IEND\xae\x42\x60\x82", 12)));
  EXPECT_NE(image.find(std::string("PLTE\0\0\0\xff\xff\xff", 10)), std::string::npos);
  EXPECT_THROW(png(2, 2, {0}, {{0, 0, 0}}), Error);
}

// Readable without colour vision: luminance grows all along the ramp.
TEST(Ramp, GrowsLighterAllTheWay) {
  double last = -1;
  for (const Color& color : sequential_ramp()) {
    const double luminance = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2];
    EXPECT_GT(luminance, last - 1);  // one part in 255 is rounding
    last = luminance;
  }
  EXPECT_GT(last, 180);
}

}  // namespace
}  // namespace cresco::report
