// Matrix products of bfloat16 numbers with sums in float, by AVX-512's VDPBF16PS: out (M,N) =
// a (M,K) b (N,K)^T. Each step of an accumulator adds two products, k and k + 1, so that a unit of
// 16 lanes does 64 floating-point operations an instruction.
//
// How fast that is depends on the processor: where VDPBF16PS starts as often as a float FMA (AMD's
// Zen 4), twice the operations a cycle; where it starts half as often (Intel without AMX), the same
// as in float, and what is saved is memory.
#pragma once

#include <cstdint>

namespace cresco::kernels {

// Whether this processor has it, and CRESCO_CPU_KERNELS does not ask for less.
bool has_bf16_product();

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

  std::int64_t panels() const { return (columns + kPanelColumns - 1) / kPanelColumns; }
  std::int64_t packed_size() const { return panels() * depth / 2 * kPanelColumns; }
};
// One panel of b, columns beyond N as zeros.
void pack_bf16(const Bf16Product& product, std::int64_t panel);
// Rows [begin, end) of out. No result depends on how the rows are cut.
void bf16_product(const Bf16Product& product, std::int64_t begin, std::int64_t end);

}  // namespace cresco::kernels
