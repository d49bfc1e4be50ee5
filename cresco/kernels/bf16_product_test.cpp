#include "cresco/kernels/bf16_product.h"

#include <gtest/gtest.h>
#include "cresco/base/random.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace cresco::kernels {
namespace {

float as_float(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

std::vector<std::uint16_t> numbers(std::int64_t count, const char* what) {
  RandomStream random(0, what);
  std::vector<std::uint16_t> all;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(random.normal());
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    all.push_back(static_cast<std::uint16_t>(bits >> 16));
  }
  return all;
}

struct Made {
  std::vector<float> out;
  std::int64_t stride;
};

// What products can be made by here: AVX-512's instruction, and AMX.
std::vector<bool> ways() {
  std::vector<bool> with_amx;
  if (has_bf16_product()) with_amx.push_back(false);
  if (has_amx()) with_amx.push_back(true);
  return with_amx;
}

Made product_of(std::int64_t M, std::int64_t N, std::int64_t K, std::int64_t cut, bool with_amx,
                bool adds = false) {
  const auto a = numbers(M * K, "a"), b = numbers(N * K, "b");
  Made made{std::vector<float>(static_cast<std::size_t>(M * (N + 3)), -7.0f), N + 3};
  Bf16Product p{.rows = M,
                .columns = N,
                .depth = K,
                .a = a.data(),
                .b = b.data(),
                .out = made.out.data(),
                .out_stride = made.stride,
                .adds = adds};
  std::vector<std::uint32_t> packed(static_cast<std::size_t>(p.packed_size()), 0xdeadbeef);
  p.packed = packed.data();
  for (std::int64_t panel = 0; panel < p.panels(); ++panel) pack_bf16(p, panel);
  bf16_product(p, 0, cut, with_amx);
  bf16_product(p, cut, M, with_amx);
  return made;
}

class Bf16ProductTest : public testing::Test {
 protected:
  void SetUp() override {
    if (ways().empty())
      GTEST_SKIP() << "this processor, or CRESCO_CPU_KERNELS, has no AVX-512 BF16";
  }
};

TEST_F(Bf16ProductTest, IsTheSumOfProducts) {
  struct {
    std::int64_t M, N, K;
  } const sizes[] = {{1, 1, 2},      {6, 64, 32},    {7, 65, 16},  {13, 100, 530},
                     {20, 31, 1200}, {300, 130, 34}, {64, 64, 64}, {33, 97, 1056}};
  for (const bool with_amx : ways())
    for (const auto& [M, N, K] : sizes) {
      SCOPED_TRACE(testing::Message() << M << " " << N << " " << K << " " << with_amx);
      const auto a = numbers(M * K, "a"), b = numbers(N * K, "b");
      const Made made = product_of(M, N, K, M, with_amx),
                 more = product_of(M, N, K, M, with_amx, /*adds=*/true);
      for (std::int64_t m = 0; m < M; ++m) {
        for (std::int64_t n = 0; n < N; ++n) {
          double sum = 0, size = 0;
          for (std::int64_t k = 0; k < K; ++k) {
            const double term =
                static_cast<double>(as_float(a[static_cast<std::size_t>(m * K + k)])) *
                static_cast<double>(as_float(b[static_cast<std::size_t>(n * K + k)]));
            sum += term;
            size += std::abs(term);
          }
          const auto at = static_cast<std::size_t>(m * made.stride + n);
          EXPECT_NEAR(made.out[at], sum, 1e-6 * size);
          EXPECT_NEAR(more.out[at], sum - 7, 1e-6 * (size + 7));
        }
        for (std::int64_t n = N; n < made.stride; ++n)  // nothing beside the result is written
          EXPECT_EQ(made.out[static_cast<std::size_t>(m * made.stride + n)], -7.0f);
      }
    }
}

TEST_F(Bf16ProductTest, DoesNotDependOnHowRowsAreCut) {
  for (const bool with_amx : ways()) {
    const Made whole = product_of(320, 70, 1300, 320, with_amx),
               cut = product_of(320, 70, 1300, 9, with_amx);
    EXPECT_EQ(whole.out, cut.out) << with_amx;
  }
}

TEST_F(Bf16ProductTest, RoundsToNearestInBothLayouts) {
  RandomStream random(0, "floats");
  constexpr std::int64_t C = 5, K = 8, kStride = 70;
  std::vector<float> from;
  for (std::int64_t i = 0; i < C * 64; ++i) from.push_back(static_cast<float>(random.normal()));
  std::vector<std::uint16_t> rows(C * kStride, 7);
  std::vector<std::uint32_t> packed(K / 2 * 64, 7);
  round_to_bf16({.rows_count = C,
                 .depth = K,
                 .from = from.data(),
                 .rows = rows.data(),
                 .row_stride = kStride,
                 .packed = packed.data()});
  for (std::int64_t k = 0; k < K; ++k)
    for (std::int64_t n = 0; n < 64; ++n) {
      const std::uint32_t pair = packed[static_cast<std::size_t>(k / 2 * 64 + n)];
      const auto bits = static_cast<std::uint16_t>(k % 2 == 0 ? pair & 0xffff : pair >> 16);
      if (k >= C) {
        EXPECT_EQ(bits, 0);
        continue;
      }
      EXPECT_EQ(bits, rows[static_cast<std::size_t>(k * kStride + n)]);
      const float exact = from[static_cast<std::size_t>(k * 64 + n)];
      EXPECT_LE(std::abs(as_float(bits) - exact), std::abs(exact) / 256);
    }
  for (std::int64_t k = 0; k < C; ++k)
    for (std::int64_t n = 64; n < kStride; ++n)
      EXPECT_EQ(rows[static_cast<std::size_t>(k * kStride + n)], 7);
}

}  // namespace
}  // namespace cresco::kernels
