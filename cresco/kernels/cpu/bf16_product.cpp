// Compiled for AVX-512 with BF16; called where has_bf16_product(). bf16_product_amx.cpp has the
// products by AMX.
#include "cresco/kernels/bf16_product.h"

#include <immintrin.h>

namespace cresco::kernels {

namespace amx {
void bf16_product(const Bf16Product& product, std::int64_t begin, std::int64_t end);
}

namespace {

// Rows of out that are made at once: 6 x 64 sums are 24 registers.
constexpr int kRows = 6;
// Depth of a pass, in pairs: its part of a panel is 64 KiB, which a second-level cache keeps.
constexpr std::int64_t kPassPairs = 256;

inline __m512bh as_bf16(__m512i bits) { return reinterpret_cast<__m512bh>(bits); }

// `columns` of the panel's 64 exist.
template <int R>
void make_rows(const Bf16Product& p, std::int64_t row, std::int64_t panel, std::int64_t pair,
               std::int64_t end, std::int64_t columns) {
  float* const out = p.out + row * p.out_stride + panel * kPanelColumns;
  __mmask16 there[4];
  for (int j = 0; j < 4; ++j) {
    const std::int64_t left = columns - 16 * j;
    there[j] = left >= 16 ? 0xffff : left > 0 ? static_cast<__mmask16>((1u << left) - 1) : 0;
  }
  __m512 sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 4; ++j)
      sum[r][j] = pair == 0 && !p.adds
                      ? _mm512_setzero_ps()
                      : _mm512_maskz_loadu_ps(there[j], out + r * p.out_stride + 16 * j);
  const std::uint32_t* b = p.packed + (panel * p.depth / 2 + pair) * kPanelColumns;
  const std::uint16_t* const a = p.a + row * p.depth;
  for (std::int64_t k = pair; k < end; ++k, b += kPanelColumns) {
    __m512bh column[4];
    for (int j = 0; j < 4; ++j) column[j] = as_bf16(_mm512_loadu_si512(b + 16 * j));
    for (int r = 0; r < R; ++r) {
      int bits;
      __builtin_memcpy(&bits, a + r * p.depth + 2 * k, sizeof bits);
      const __m512bh value = as_bf16(_mm512_set1_epi32(bits));
      for (int j = 0; j < 4; ++j) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], value, column[j]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 4; ++j)
      _mm512_mask_storeu_ps(out + r * p.out_stride + 16 * j, there[j], sum[r][j]);
}

}  // namespace

void pack_bf16(const Bf16Product& p, std::int64_t panel) {
  std::uint32_t* to = p.packed + panel * (p.depth / 2) * kPanelColumns;
  const std::int64_t first = panel * kPanelColumns;
  for (std::int64_t part = 0; part < 4; ++part) {
    const std::int64_t column = first + 16 * part, left = p.columns - column;
    const __mmask16 there = left >= 16 ? 0xffff
                            : left > 0 ? static_cast<__mmask16>((1u << left) - 1)
                                       : 0;
    // Pairs of 16 rows of b, which lie `depth` numbers apart.
    const __m512i index =
        _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                           _mm512_set1_epi32(static_cast<int>(p.depth)));
    for (std::int64_t k = 0; k < p.depth / 2; ++k) {
      const __m512i pairs = there == 0
                                ? _mm512_setzero_si512()
                                : _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, index,
                                                              p.b + column * p.depth + 2 * k, 2);
      _mm512_storeu_si512(to + k * kPanelColumns + 16 * part, pairs);
    }
  }
}

void bf16_product(const Bf16Product& p, std::int64_t begin, std::int64_t end, bool with_amx) {
  if (with_amx) return amx::bf16_product(p, begin, end);
  const std::int64_t pairs = p.depth / 2;
  for (std::int64_t pair = 0; pair < pairs; pair += kPassPairs) {
    const std::int64_t last = pair + kPassPairs < pairs ? pair + kPassPairs : pairs;
    for (std::int64_t panel = 0; panel < p.panels(); ++panel) {
      const std::int64_t left = p.columns - panel * kPanelColumns;
      const std::int64_t columns = left < kPanelColumns ? left : kPanelColumns;
      std::int64_t row = begin;
      for (; row + kRows <= end; row += kRows) make_rows<kRows>(p, row, panel, pair, last, columns);
      for (; row < end; ++row) make_rows<1>(p, row, panel, pair, last, columns);
    }
  }
}

void round_to_bf16(const Bf16Rounding& p) {
  const auto bits_of = [&](std::int64_t row, int part) {
    if (row >= p.rows_count) return _mm256_setzero_si256();
    const __m512 numbers = _mm512_loadu_ps(p.from + row * kPanelColumns + 16 * part);
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers));
  };
  for (std::int64_t pair = 0; pair < p.depth / 2; ++pair)
    for (int part = 0; part < 4; ++part) {
      const __m256i even = bits_of(2 * pair, part), odd = bits_of(2 * pair + 1, part);
      for (std::int64_t i = 0; i < 2 && 2 * pair + i < p.rows_count; ++i)
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(p.rows + (2 * pair + i) * p.row_stride + 16 * part),
            i == 0 ? even : odd);
      const __m512i pairs = _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                                            _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
      _mm512_storeu_si512(p.packed + pair * kPanelColumns + 16 * part, pairs);
    }
}

}  // namespace cresco::kernels
