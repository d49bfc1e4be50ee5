#include "cresco/report/png.h"

#include "cresco/base/require.h"

#include <algorithm>

namespace cresco::report {
namespace {

std::string big_endian(std::uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
  return out;
}

// The checksum of PNG chunks: CRC-32 with the reflected polynomial edb88320.
std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

std::uint32_t adler32(std::string_view bytes) {
  std::uint32_t a = 1, b = 0;
  for (const char c : bytes) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

std::string chunk(std::string_view type, std::string_view data) {
  const std::string body = std::string(type) + std::string(data);
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(crc32(body));
}

// A zlib stream of stored blocks: nothing is compressed, and no library is needed to write it.
std::string zlib_stored(std::string_view data) {
  std::string out = "\x78\x01";
  for (std::string_view rest = data; !rest.empty() || out.size() == 2;) {
    const std::string_view block = rest.substr(0, 65535);
    rest.remove_prefix(block.size());
    const auto length = static_cast<std::uint16_t>(block.size());
    out += rest.empty() ? '\x01' : '\x00';
    for (const std::uint16_t value : {length, static_cast<std::uint16_t>(~length)}) {
      out += static_cast<char>(value & 0xff);
      out += static_cast<char>(value >> 8);
    }
    out += block;
  }
  return out + big_endian(adler32(data));
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
         chunk("IDAT", zlib_stored(rows)) + chunk("IEND", "");
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (std::size_t j = 0; j < 4; ++j)
      out += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return out;
}

}  // namespace cresco::report
