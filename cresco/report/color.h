// The sequential ramp of heat maps, as numbers. Lightness rises evenly from a deep blue to a pale
// yellow, so that it reads the same without colour vision, printed in grey, and on light and dark
// pages.
#pragma once

#include "cresco/report/png.h"

#include <vector>

namespace cresco::report {

std::vector<Color> sequential_ramp();  // 256 colours

}  // namespace cresco::report
