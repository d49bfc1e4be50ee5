#include "cresco/text/byte_alphabet.h"

#include "cresco/text/unicode.h"

namespace cresco::text {
namespace {

constexpr int kNumCharacters = 256 + 68;

struct Alphabet {
  std::array<char32_t, 256> character_of{};
  std::array<std::int16_t, kNumCharacters> byte_of{};
  std::array<std::uint8_t, 256> in_order{};

  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      character_of[byte] = character;
      byte_of[character] = static_cast<std::int16_t>(byte);
    }
    std::size_t place = 0;
    for (const std::int16_t byte : byte_of)
      if (byte >= 0) in_order[place++] = static_cast<std::uint8_t>(byte);
  }
};

const Alphabet& alphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

const std::array<std::uint8_t, 256>& bytes_in_alphabet_order() { return alphabet().in_order; }

std::string to_alphabet(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes)
    append_utf8(out, alphabet().character_of[static_cast<unsigned char>(byte)]);
  return out;
}

std::optional<std::string> from_alphabet(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Decoded next = decode(text);
    if (!next.valid || next.code_point >= kNumCharacters) return std::nullopt;
    const int byte = alphabet().byte_of[next.code_point];
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    text.remove_prefix(next.length);
  }
  return out;
}

}  // namespace cresco::text
