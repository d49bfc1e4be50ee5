// The byte alphabet of GPT-2: a printable character for each byte, in which tokenizer.json writes
// tokens. Bytes 33-126, 161-172 and 174-255 are the characters of that code; the other 68, in
// order, are U+0100 and up. So a space is written U+0120.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cresco::text {

// The 256 bytes in the order of their characters: the order in which vocabularies list them.
const std::array<std::uint8_t, 256>& bytes_in_alphabet_order();

std::string to_alphabet(std::string_view bytes);
// Nothing when a character is not of the alphabet.
std::optional<std::string> from_alphabet(std::string_view utf8);

}  // namespace cresco::text
