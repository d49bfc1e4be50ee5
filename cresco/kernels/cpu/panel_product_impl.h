// The kernel of panel_product.h, compiled once for each instruction set: CRESCO_ISA is its
// namespace.
#include "cresco/kernels/panel_product.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace cresco::kernels::CRESCO_ISA {
namespace {

#include "cresco/kernels/cpu/vectors.h"

constexpr std::int64_t kLanesOfVector = 16;
// Sums that registers hold: rows, and vectors of columns. AVX2 has two registers to a vector,
// x86-64 four.
#if defined(__AVX512F__)
constexpr int kRows = 6, kVectors = 4;
#elif defined(__AVX2__)
constexpr int kRows = 6, kVectors = 1;
#else
constexpr int kRows = 3, kVectors = 1;
#endif
// A piece of a panel of this depth, 32 KiB, stays in the first-level cache while all rows use it.
constexpr std::int64_t kPieceDepth = 128;

template <int R>
inline void make_rows(const float* a, std::int64_t a_row, std::int64_t a_depth, const float* panel,
                      std::int64_t depth, float* out, std::int64_t out_row, bool adds) {
  for (int v = 0; v < kPanelWidth / kLanesOfVector; v += kVectors) {
    Vector<float> sum[R][kVectors] = {};
    if (adds)
      for (int r = 0; r < R; ++r)
        for (int j = 0; j < kVectors; ++j)
          sum[r][j] = load(out + r * out_row + (v + j) * kLanesOfVector);
    const float* b = panel + v * kLanesOfVector;
    for (std::int64_t k = 0; k < depth; ++k, b += kPanelWidth) {
      Vector<float> columns[kVectors];
      for (int j = 0; j < kVectors; ++j) columns[j] = load(b + j * kLanesOfVector);
      for (int r = 0; r < R; ++r) {
        const Vector<float> x = broadcast(a[r * a_row + k * a_depth]);
        for (int j = 0; j < kVectors; ++j) sum[r][j] += x * columns[j];
      }
    }
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < kVectors; ++j)
        store(out + r * out_row + (v + j) * kLanesOfVector, sum[r][j]);
  }
}

template <int R>
inline void make_some(const PanelProduct& p, std::int64_t row, std::int64_t first,
                      std::int64_t depth) {
  const float* const a = p.a + row * p.a_row + first * p.a_depth;
  const float* const panel = p.panel + first * kPanelWidth;
  float* const out = p.out + row * p.out_row;
  const bool adds = p.adds || first > 0;
  if (p.columns == kPanelWidth) {
    make_rows<R>(a, p.a_row, p.a_depth, panel, depth, out, p.out_row, adds);
    return;
  }
  float whole[R * kPanelWidth] = {};
  for (int r = 0; r < R; ++r)
    for (std::int64_t c = 0; adds && c < p.columns; ++c)
      whole[r * kPanelWidth + c] = out[r * p.out_row + c];
  make_rows<R>(a, p.a_row, p.a_depth, panel, depth, whole, kPanelWidth, true);
  for (int r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < p.columns; ++c)
      out[r * p.out_row + c] = whole[r * kPanelWidth + c];
}

}  // namespace

void panel_product(const PanelProduct& p) {
  if (p.rows == 0) return;
  constexpr std::int64_t kLine = 64;
  const std::int64_t steps =
      (p.rows + kRows - 1) / kRows * ((p.depth + kPieceDepth - 1) / kPieceDepth);
  const std::int64_t next_step = (p.next_bytes / steps / kLine + 1) * kLine;
  const char* next = static_cast<const char*>(p.next);
  const char* const next_end = next + p.next_bytes;
  const auto ask = [&] {
    for (const char* const end = next + next_step; next < end && next < next_end; next += kLine)
      __builtin_prefetch(next, 0, 2);
  };
  for (std::int64_t first = 0; first < p.depth; first += kPieceDepth) {
    const std::int64_t depth = p.depth - first < kPieceDepth ? p.depth - first : kPieceDepth;
    std::int64_t row = 0;
    for (; row + kRows <= p.rows; row += kRows) {
      ask();
      make_some<kRows>(p, row, first, depth);
    }
    for (; row + 4 <= p.rows; row += 4) {
      ask();
      make_some<4>(p, row, first, depth);
    }
    for (; row + 2 <= p.rows; row += 2) make_some<2>(p, row, first, depth);
    for (; row < p.rows; ++row) make_some<1>(p, row, first, depth);
  }
}

}  // namespace cresco::kernels::CRESCO_ISA
