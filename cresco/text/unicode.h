// Code points: their classes as tokenizers see them, and UTF-8.
#pragma once

#include "cresco/text/unicode_tables.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cresco::text {

// The general categories L and N, the property White_Space, and everything else.
enum class CharClass : std::uint8_t { Other, Letter, Number, Space };

// What the table holds about a code point: its class in the low two bits, and these.
inline constexpr std::uint8_t kClassMask = 3;
inline constexpr std::uint8_t kWordBit = 4;            // \w: alphabetic, mark, digit, connector
inline constexpr std::uint8_t kCombiningClassBit = 8;  // its combining class is not 0
inline constexpr std::uint8_t kMayChangeBit = 16;      // NFC_Quick_Check is not Yes
inline constexpr std::uint8_t kLowerBit = 32;          // the general category Ll
inline constexpr std::uint8_t kUpperBit = 64;          // the general category Lu

inline std::uint8_t properties(char32_t c) {
  return tables::kProperties[256 * tables::kBlockOf[c >> 8] + (c & 255)];
}
inline CharClass char_class(char32_t c) {
  return static_cast<CharClass>(properties(c) & kClassMask);
}

inline constexpr char32_t kReplacement = 0xFFFD;

// The code point at the start of some text. Where there is none (the bytes are not UTF-8), `valid`
// is false and `length` is that of the part to be replaced by one U+FFFD, as Python and browsers
// count it.
struct Decoded {
  char32_t code_point;
  std::uint8_t length;
  bool valid;
};

Decoded decode_long(std::string_view text);  // what does not begin with ASCII

inline Decoded decode(std::string_view text) {
  const auto first = static_cast<unsigned char>(text.front());
  if (first < 0x80) return {first, 1, true};
  return decode_long(text);
}

void append_utf8(std::string& out, char32_t c);

// The length of the longest beginning that is ASCII.
std::size_t ascii_prefix(std::string_view text);

// The text with U+FFFD for every part that is not UTF-8; `replaced` grows by their number.
std::string replace_invalid_utf8(std::string_view text, std::int64_t& replaced);
bool is_utf8(std::string_view text);

}  // namespace cresco::text
