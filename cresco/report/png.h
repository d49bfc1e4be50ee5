// An image with a palette as a PNG file, small enough to stand inside a page.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace cresco::report {

using Color = std::array<std::uint8_t, 3>;

// One palette index per pixel, rows from the top.
std::string png(std::uint32_t width, std::uint32_t height, const std::vector<std::uint8_t>& pixels,
                const std::vector<Color>& palette);

}  // namespace cresco::report
