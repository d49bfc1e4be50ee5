// Matrix products of bfloat16 numbers with sums in float: out (M,N) = a (M,K) b (N,K)^T.
//
// By AMX where the processor has it (Intel from Sapphire Rapids on): 16 times the operations a
// cycle that float has, so that what the tiles read and write decides. Otherwise by AVX-512's
// VDPBF16PS, each step of which adds two products, k and k + 1: where it starts as often as a float
// FMA (AMD's Zen 4), twice the operations a cycle; where it starts half as often (Intel without
// AMX), the same as in float, and what is saved is memory.
#pragma once

#include <cstdint>

namespace cresco::kernels {

// Whether this processor has it, and CRESCO_CPU_KERNELS does not ask for less.
bool has_bf16_product();
// Whether it has AMX, too, with which these products are several times faster than those of floats.
bool has_amx();

// Columns of a panel of packed b.
inline constexpr std::int64_t kPanelColumns = 64;

struct Bf16Product {
  std::int64_t rows = 0, columns = 0, depth = 0;  // M, N, K; K is even
  const std::uint16_t* a = nullptr;               // (M, K)
  const std::uint16_t* b = nullptr;               // (N, K), read by pack alone
  // (ceil(N/64), K/2, 64) pairs of bfloat16
  std::uint32_t* packed = nullptr;
  float* out = nullptr;  // (M, out_stride); out_stride is at least N
  std::int64_t out_stride = 0;
  bool adds = false;  // to what stands in out

  std::int64_t panels() const { return (columns + kPanelColumns - 1) / kPanelColumns; }
  std::int64_t packed_size() const { return panels() * depth / 2 * kPanelColumns; }
};
// One panel of b, columns beyond N as zeros.
void pack_bf16(const Bf16Product& product, std::int64_t panel);
// Rows [begin, end) of out. No result depends on how the rows are cut.
void bf16_product(const Bf16Product& product, std::int64_t begin, std::int64_t end,
                  bool with_amx = has_amx());

// Floats (C, 64) as bfloat16, rounded to nearest, in two layouts: `rows` (C, row_stride) as an `a`,
// and `packed` (K/2, 64) pairs as one panel of a `b` whose depth is C, with zeros up to K numbers.
// NaN stays NaN.
struct Bf16Rounding {
  std::int64_t rows_count = 0, depth = 0;  // C; K, even, at least C
  const float* from = nullptr;
  std::uint16_t* rows = nullptr;
  std::int64_t row_stride = 0;
  std::uint32_t* packed = nullptr;
};
void round_to_bf16(const Bf16Rounding& rounding);

}  // namespace cresco::kernels
