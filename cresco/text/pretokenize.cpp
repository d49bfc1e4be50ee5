#include "cresco/text/pretokenize.h"

#include "cresco/text/unicode.h"

#include <algorithm>
#include <array>

namespace cresco::text {
namespace {

constexpr std::array<CharClass, 128> kAsciiClass = [] {
  std::array<CharClass, 128> out{};
  for (char c = 'a'; c <= 'z'; ++c) out[c] = out[c - 'a' + 'A'] = CharClass::Letter;
  for (char c = '0'; c <= '9'; ++c) out[c] = CharClass::Number;
  for (char c = '\t'; c <= '\r'; ++c) out[c] = CharClass::Space;
  out[' '] = CharClass::Space;
  return out;
}();

struct Character {
  CharClass char_class;
  std::size_t length;
};

// Does not read a valid sequence's bytes twice, but takes an invalid one byte by byte.
inline Character character_at(std::string_view text, std::size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 0x80) return {kAsciiClass[byte], 1};
  const Decoded next = decode_long(text.substr(i));
  if (!next.valid) return {CharClass::Other, 1};
  return {char_class(next.code_point), next.length};
}

// The end of the longest stretch of one class that begins at i, of at most `limit` characters.
inline std::size_t run_end(std::string_view text, std::size_t i, CharClass wanted,
                           std::size_t limit = std::string_view::npos) {
  for (; i < text.size() && limit > 0; --limit) {
    const Character next = character_at(text, i);
    if (next.char_class != wanted) break;
    i += next.length;
  }
  return i;
}

// A run of white space is given up to its last character, which goes with the word behind it:
// \s+(?!\S)|\s+
std::size_t space_end(std::string_view text, std::size_t begin) {
  std::size_t last = begin, end = begin;
  while (end < text.size()) {
    const Character next = character_at(text, end);
    if (next.char_class != CharClass::Space) break;
    last = end;
    end += next.length;
  }
  return end == text.size() || last == begin ? end : last;
}

// The length of s, t, re, ve, m, ll or d at the start of `text`, or 0.
std::size_t contraction(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] == 's' || text[0] == 't' || text[0] == 'm' || text[0] == 'd') return 1;
  const std::string_view two = text.substr(0, 2);
  return two == "re" || two == "ve" || two == "ll" ? 2 : 0;
}

// The same in either case; the long s (U+017F) is an s.
std::size_t contraction_any_case(std::string_view text) {
  if (text.starts_with("\u017F")) return 2;
  char lower[2] = {0, 0};
  const std::size_t size = std::min<std::size_t>(text.size(), 2);
  for (std::size_t i = 0; i < size; ++i)
    lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
  return contraction({lower, size});
}

std::size_t gpt2_end(std::string_view text, std::size_t begin) {
  if (text[begin] == '\'') {
    const std::size_t length = contraction(text.substr(begin + 1));
    if (length > 0) return begin + 1 + length;
  }
  std::size_t i = begin;
  Character first = character_at(text, i);
  if (text[i] == ' ' && i + 1 < text.size()) {
    const Character second = character_at(text, i + 1);
    if (second.char_class != CharClass::Space) {
      first = second;
      ++i;
    }
  }
  if (first.char_class == CharClass::Space) return space_end(text, begin);
  return run_end(text, i + first.length, first.char_class);
}

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

std::size_t cl100k_end(std::string_view text, std::size_t begin) {
  if (text[begin] == '\'') {
    const std::size_t length = contraction_any_case(text.substr(begin + 1));
    if (length > 0) return begin + 1 + length;
  }

  // [^\r\n\p{L}\p{N}]?\p{L}+
  const Character first = character_at(text, begin);
  const std::size_t second = begin + first.length;
  if (first.char_class == CharClass::Letter) return run_end(text, second, CharClass::Letter);
  if (first.char_class != CharClass::Number && !is_line_end(text[begin])) {
    const std::size_t end = run_end(text, second, CharClass::Letter);
    if (end > second) return end;
  }

  // \p{N}{1,3}
  if (first.char_class == CharClass::Number) return run_end(text, begin, CharClass::Number, 3);

  //  ?[^\s\p{L}\p{N}]+[\r\n]*
  const std::size_t marks = begin + (text[begin] == ' ');
  std::size_t end = run_end(text, marks, CharClass::Other);
  if (end > marks) {
    while (end < text.size() && is_line_end(text[end])) ++end;
    return end;
  }

  // \s*[\r\n]+
  end = run_end(text, begin, CharClass::Space);
  const std::size_t line_end = text.substr(begin, end - begin).find_last_of("\r\n");
  if (line_end != std::string_view::npos) return begin + line_end + 1;
  return space_end(text, begin);
}

}  // namespace

std::size_t piece_end(Split split, std::string_view text, std::size_t begin) {
  switch (split) {
    case Split::Gpt2:
      return gpt2_end(text, begin);
    case Split::Cl100k:
      return cl100k_end(text, begin);
    case Split::None:
      break;
  }
  return text.size();
}

}  // namespace cresco::text
