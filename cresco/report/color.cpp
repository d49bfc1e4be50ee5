#include "cresco/report/color.h"

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

// Oklab (Ottosson 2020, "A perceptual color space for image processing") to one byte per channel.
Color from_oklab(double lightness, double a, double b) {
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  const double linear[] = {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                           -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                           -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
  Color color{};
  for (std::size_t i = 0; i < 3; ++i) {
    const double part = std::clamp(linear[i], 0.0, 1.0);
    const double encoded =
        part <= 0.0031308 ? 12.92 * part : 1.055 * std::pow(part, 1 / 2.4) - 0.055;
    color[i] = static_cast<std::uint8_t>(std::lround(255 * encoded));
  }
  return color;
}

}  // namespace

std::vector<Color> sequential_ramp() {
  constexpr double kDegree = 3.14159265358979323846 / 180;
  std::vector<Color> ramp;
  for (int i = 0; i < 256; ++i) {
    const double t = i / 255.0;
    const double lightness = 0.22 + 0.70 * t;
    const double hue = (275 - 170 * t) * kDegree;  // blue, over green, to yellow
    const double chroma = 0.075 + 0.055 * std::sin(3.14159265358979323846 * t);
    ramp.push_back(from_oklab(lightness, chroma * std::cos(hue), chroma * std::sin(hue)));
  }
  return ramp;
}

}  // namespace cresco::report
