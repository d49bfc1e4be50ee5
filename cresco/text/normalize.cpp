#include "cresco/text/normalize.h"

#include "cresco/text/unicode.h"

#include <algorithm>
#include <span>
#include <vector>

namespace cresco::text {
namespace {

// Hangul syllables are numbered by their jamo (The Unicode Standard, section 3.12).
constexpr char32_t kS = 0xAC00, kL = 0x1100, kV = 0x1161, kT = 0x11A7;
constexpr char32_t kNumL = 19, kNumV = 21, kNumT = 28;

std::uint8_t combining_class(char32_t c) {
  if (!(properties(c) & kCombiningClassBit)) return 0;
  const std::span ranges(tables::kCombining, tables::kCombiningSize);
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), c,
                       [](char32_t x, const auto& range) { return x < range.first; });
  return std::prev(after)->combining_class;
}

struct Mark {
  char32_t code_point;
  std::uint8_t combining_class;
};

void append_decomposed(std::vector<Mark>& out, char32_t c) {
  if (c >= kS && c < kS + kNumL * kNumV * kNumT) {
    const char32_t index = c - kS;
    out.push_back({kL + index / (kNumV * kNumT), 0});
    out.push_back({kV + index % (kNumV * kNumT) / kNumT, 0});
    if (index % kNumT != 0) out.push_back({kT + index % kNumT, 0});
    return;
  }
  const std::span all(tables::kDecompositions, tables::kDecompositionsSize);
  const auto found = std::lower_bound(all.begin(), all.end(), c,
                                      [](const auto& d, char32_t x) { return d.code_point < x; });
  if (found == all.end() || found->code_point != c) {
    out.push_back({c, combining_class(c)});
    return;
  }
  for (const char32_t part : std::span(tables::kDecomposed + found->begin, found->length))
    out.push_back({part, combining_class(part)});
}

// The primary composite of two code points, or 0.
char32_t composed(char32_t a, char32_t b) {
  if (a >= kL && a < kL + kNumL && b >= kV && b < kV + kNumV)
    return kS + ((a - kL) * kNumV + (b - kV)) * kNumT;
  if (a >= kS && a < kS + kNumL * kNumV * kNumT && (a - kS) % kNumT == 0 && b > kT &&
      b < kT + kNumT)
    return a + (b - kT);
  const std::span all(tables::kCompositions, tables::kCompositionsSize);
  const auto found = std::lower_bound(
      all.begin(), all.end(), std::pair(a, b),
      [](const auto& c, const auto& pair) { return std::pair(c.first, c.second) < pair; });
  return found != all.end() && found->first == a && found->second == b ? found->composed : 0;
}

// Marks that follow a starter in the order of their classes; equal classes keep their order.
void order_marks(std::vector<Mark>& text) {
  const auto is_starter = [](const Mark& mark) { return mark.combining_class == 0; };
  for (auto begin = text.begin(); begin != text.end();) {
    begin = std::find_if_not(begin, text.end(), is_starter);
    const auto end = std::find_if(begin, text.end(), is_starter);
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
}

// Each mark joins the last starter unless one between them blocks it.
void compose(std::vector<Mark>& text) {
  std::size_t size = 0, starter = 0;
  bool has_starter = false;
  for (const Mark mark : text) {
    if (has_starter) {
      const bool adjacent = size == starter + 1;
      const bool blocked = !adjacent && text[size - 1].combining_class >= mark.combining_class;
      const char32_t both = blocked ? 0 : composed(text[starter].code_point, mark.code_point);
      if (both != 0) {
        text[starter].code_point = both;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = size;
      has_starter = true;
    }
    text[size++] = mark;
  }
  text.resize(size);
}

void append_normalized(std::string& out, std::vector<Mark>& text) {
  order_marks(text);
  compose(text);
  for (const Mark mark : text) append_utf8(out, mark.code_point);
  text.clear();
}

}  // namespace

bool is_nfc_quick(std::string_view text) {
  std::uint8_t last_class = 0;
  for (;;) {
    if (const std::size_t ascii = ascii_prefix(text); ascii > 0) {
      last_class = 0;
      text.remove_prefix(ascii);
    }
    if (text.empty()) return true;
    const Decoded next = decode(text);
    text.remove_prefix(next.length);
    std::uint8_t this_class = 0;
    if (next.valid) {
      const std::uint8_t bits = properties(next.code_point);
      if (bits & kMayChangeBit) return false;
      if (bits & kCombiningClassBit) this_class = combining_class(next.code_point);
    }
    if (this_class != 0 && this_class < last_class) return false;
    last_class = this_class;
  }
}

std::string nfc(std::string_view text) {
  if (is_nfc_quick(text)) return std::string(text);

  std::string out;
  out.reserve(text.size());
  std::vector<Mark> open;  // from the last starter on that ASCII or the end has not closed
  while (!text.empty()) {
    // ASCII takes part in nothing but as the starter before a mark: all of a run but its last
    // character is copied.
    const std::size_t ascii = ascii_prefix(text);
    if (ascii > 0) {
      append_normalized(out, open);
      out += text.substr(0, ascii - 1);
      open.push_back({static_cast<unsigned char>(text[ascii - 1]), 0});
      text.remove_prefix(ascii);
      continue;
    }
    const Decoded next = decode(text);
    if (next.valid) {
      append_decomposed(open, next.code_point);
    } else {
      append_normalized(out, open);
      out += text.substr(0, next.length);
    }
    text.remove_prefix(next.length);
  }
  append_normalized(out, open);
  return out;
}

}  // namespace cresco::text
