#include "cresco/report/png.h"

#include "cresco/base/require.h"
#include "cresco/report/compact.h"

#include <zlib.h>

namespace cresco::report {
namespace {

std::string big_endian(std::uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
  return out;
}

std::string chunk(std::string_view type, std::string_view data) {
  const std::string body = std::string(type) + std::string(data);
  const auto checksum =
      crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(static_cast<std::uint32_t>(data.size())) + body +
         big_endian(static_cast<std::uint32_t>(checksum));
}

}  // namespace

std::string png(std::uint32_t width, std::uint32_t height, const std::vector<std::uint8_t>& pixels,
                const std::vector<Color>& palette) {
  require(pixels.size() == std::size_t{width} * height && width > 0 && height > 0,
          "png: {} pixels for an image of {} by {}", pixels.size(), width, height);
  require(!palette.empty() && palette.size() <= 256, "png: a palette of {} colours",
          palette.size());

  std::string header = big_endian(width) + big_endian(height);
  header +=
      std::string("\x08\x03\x00\x00\x00", 5);  // 8 bits, palette, deflate, no filter, no interlace
  std::string colors;
  for (const Color& color : palette)
    for (const std::uint8_t part : color) colors += static_cast<char>(part);
  std::string rows;
  for (std::uint32_t y = 0; y < height; ++y) {
    rows += '\x00';  // this row is not filtered
    for (std::uint32_t x = 0; x < width; ++x)
      rows += static_cast<char>(pixels[std::size_t{y} * width + x]);
  }
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("PLTE", colors) +
         chunk("IDAT", compressed(rows)) + chunk("IEND", "");
}

}  // namespace cresco::report
