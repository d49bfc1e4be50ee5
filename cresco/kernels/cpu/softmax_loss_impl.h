// The kernels of softmax_loss.h for blocks of columns, compiled once for each instruction set:
// CRESCO_ISA is its namespace.
#include "cresco/kernels/cpu/softmax_table.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace cresco::kernels::CRESCO_ISA {
namespace {

#include "cresco/kernels/cpu/vectors.h"

constexpr std::int64_t kFloats = 16;
constexpr int kParts = kPanelWidth / kFloats;  // vectors of a panel's rows
// Sums of so many columns are added to sums of sums, which keeps their rounding small.
constexpr std::int64_t kSumColumns = 64;
constexpr float kMostFloat = 3.40282347e38f;

typedef VectorOf<float>::integers Integers;

// exp(y) for y <= 0, within 2 units in the last place; 0 where it is less than 2^-126 (y below
// -87.33). y = n ln 2 + r with |r| <= ln 2 / 2, where n times the first part of ln 2 (16 bits) is
// exact; exp(r) by its Taylor polynomial, whose rest is below 6e-9; 2^n by the exponent's bits.
inline Vector<float> exp_of_negative(Vector<float> y) {
  const Vector<float> shifted = y * 1.44269504088896f + 12582912.0f;  // 1.5 * 2^23: rounds to n
  const Vector<float> n = shifted - 12582912.0f;
  const Vector<float> r = (y - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
  const Vector<float> tail =
      0.5f +
      r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040)))));
  const Vector<float> power = 1.0f + (r + r * r * tail);
  // n's low bits stand at the end of `shifted`.
  const Integers scaled = (Integers)power + ((Integers)shifted << 23);
  // (A NaN is not less.)
  return y < -87.33654f ? Vector<float>{} : y == y ? (Vector<float>)scaled : y;
}

inline Vector<float> larger(Vector<float> a, Vector<float> b) { return a > b ? a : b; }

}  // namespace

void softmax_block(const SoftmaxBlock& b) {
  for (std::int64_t panel = 0; panel < b.panels; ++panel) {
    float* const x = b.x + panel * b.columns * kPanelWidth;
    const std::int64_t first_row = panel * kPanelWidth;
    for (std::int64_t row = 0; row < kPanelWidth; ++row) {
      const std::int64_t column = b.target_R[first_row + row] - b.first;
      if (column >= 0 && column < b.columns)
        b.target_logit_R[first_row + row] = x[column * kPanelWidth + row];
    }
    Vector<float> largest[kParts];
    for (auto& m : largest) m = broadcast(-kMostFloat);
    for (std::int64_t c = 0; c < b.columns; ++c)
      for (int i = 0; i < kParts; ++i)
        largest[i] = larger(load(x + c * kPanelWidth + i * kFloats), largest[i]);
    Vector<float> sum[kParts] = {};
    for (std::int64_t begin = 0; begin < b.columns; begin += kSumColumns) {
      const std::int64_t end = begin + kSumColumns < b.columns ? begin + kSumColumns : b.columns;
      Vector<float> part[kParts] = {};
      for (std::int64_t c = begin; c < end; ++c)
        for (int i = 0; i < kParts; ++i) {
          float* const at = x + c * kPanelWidth + i * kFloats;
          const Vector<float> e = exp_of_negative(load(at) - largest[i]);
          store(at, e);
          part[i] += e;
        }
      for (int i = 0; i < kParts; ++i) sum[i] += part[i];
    }
    for (int i = 0; i < kParts; ++i) {
      store(b.largest_R + first_row + i * kFloats, largest[i]);
      store(b.sum_R + first_row + i * kFloats, sum[i]);
    }
  }
}

void softmax_gradient(const SoftmaxBlock& b, float weight) {
  for (std::int64_t panel = 0; panel < b.panels; ++panel) {
    float* const x = b.x + panel * b.columns * kPanelWidth;
    const std::int64_t first_row = panel * kPanelWidth;
    Vector<float> factor[kParts];
    for (int i = 0; i < kParts; ++i) factor[i] = load(b.factor_R + first_row + i * kFloats);
    for (std::int64_t c = 0; c < b.columns; ++c)
      for (int i = 0; i < kParts; ++i) {
        float* const at = x + c * kPanelWidth + i * kFloats;
        // What an ignored row holds may be no number.
        store(at, factor[i] == 0.0f ? Vector<float>{} : load(at) * factor[i]);
      }
    for (std::int64_t row = 0; row < kPanelWidth; ++row) {
      const std::int64_t column = b.target_R[first_row + row] - b.first;
      if (column >= 0 && column < b.columns) x[column * kPanelWidth + row] -= weight;
    }
  }
}

}  // namespace cresco::kernels::CRESCO_ISA
