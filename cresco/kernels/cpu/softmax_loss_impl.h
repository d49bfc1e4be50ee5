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

// The last vector of a row may lack some numbers: read as `missing`, not written.
inline Vector<float> load_some(const float* from, std::int64_t count, float missing) {
  Vector<float> v = broadcast(missing);
  __builtin_memcpy(&v, from, static_cast<unsigned long>(count) * sizeof(float));
  return v;
}
inline void store_some(float* to, std::int64_t count, Vector<float> v) {
  __builtin_memcpy(to, &v, static_cast<unsigned long>(count) * sizeof(float));
}

inline float largest_of(const float* x, std::int64_t columns) {
  // Several at a time: one maximum waits for the other.
  Vector<float> most[4];
  for (auto& m : most) m = broadcast(-kMostFloat);
  std::int64_t c = 0;
  for (; c + 4 * kFloats <= columns; c += 4 * kFloats)
    for (int i = 0; i < 4; ++i) most[i] = larger(load(x + c + i * kFloats), most[i]);
  for (; c + kFloats <= columns; c += kFloats) most[0] = larger(load(x + c), most[0]);
  if (c < columns) most[1] = larger(load_some(x + c, columns - c, -kMostFloat), most[1]);
  const Vector<float> all = larger(larger(most[0], most[1]), larger(most[2], most[3]));
  float largest = all[0];
  for (int i = 1; i < kFloats; ++i) largest = all[i] > largest ? all[i] : largest;
  return largest;
}

}  // namespace

void softmax_block(const SoftmaxBlock& b) {
  for (std::int64_t row = 0; row < b.rows; ++row) {
    float* const x = b.x + row * b.stride;
    const std::int64_t target = b.target_R[row] - b.first;
    if (target >= 0 && target < b.columns) b.target_logit_R[row] = x[target];
    const float largest = largest_of(x, b.columns);
    Vector<float> sums[2] = {};
    std::int64_t c = 0;
    for (; c + 2 * kFloats <= b.columns; c += 2 * kFloats)
      for (int i = 0; i < 2; ++i) {
        const Vector<float> e = exp_of_negative(load(x + c + i * kFloats) - largest);
        store(x + c + i * kFloats, e);
        sums[i] += e;
      }
    for (; c < b.columns; c += kFloats) {
      const std::int64_t count = b.columns - c < kFloats ? b.columns - c : kFloats;
      const Vector<float> e = exp_of_negative(load_some(x + c, count, -__builtin_inff()) - largest);
      store_some(x + c, count, e);
      sums[0] += e;
    }
    b.largest_R[row] = largest;
    b.sum_R[row] = sum(sums[0] + sums[1]);
  }
}

void softmax_gradient(const SoftmaxBlock& b, float weight) {
  for (std::int64_t row = 0; row < b.rows; ++row) {
    float* const x = b.x + row * b.stride;
    if (b.target_R[row] < 0) {  // what is there may be no number
      for (std::int64_t c = 0; c < b.columns; ++c) x[c] = 0;
      continue;
    }
    const float factor = b.factor_R[row];
    std::int64_t c = 0;
    for (; c + kFloats <= b.columns; c += kFloats) store(x + c, load(x + c) * factor);
    for (; c < b.columns; ++c) x[c] *= factor;
    const std::int64_t target = b.target_R[row] - b.first;
    if (target >= 0 && target < b.columns) x[target] -= weight;
  }
}

}  // namespace cresco::kernels::CRESCO_ISA
