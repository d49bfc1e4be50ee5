// Tables of Unicode 16.0.0, made by tools/make_unicode_tables.py. unicode.h and normalize.h read
// them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cresco::text::tables {

struct CombiningRange {
  char32_t first, last;
  std::uint8_t combining_class;
};

struct Decomposition {
  char32_t code_point;
  std::uint16_t begin;  // in kDecomposed
  std::uint16_t length;
};

struct Composition {
  char32_t first, second, composed;
};

// The properties of code point c: kProperties[256 * kBlockOf[c >> 8] + (c & 255)].
extern const std::uint8_t kBlockOf[];
extern const std::uint8_t kProperties[];

// Each sorted by code point. Hangul syllables are left to arithmetic.
extern const CombiningRange kCombining[];
extern const std::size_t kCombiningSize;
extern const Decomposition kDecompositions[];  // canonical and complete
extern const std::size_t kDecompositionsSize;
extern const char32_t kDecomposed[];
extern const Composition kCompositions[];  // without the exclusions
extern const std::size_t kCompositionsSize;

}  // namespace cresco::text::tables
