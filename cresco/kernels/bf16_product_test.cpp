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

Made product_of(std::int64_t M, std::int64_t N, std::int64_t K, std::int64_t cut) {
  const auto a = numbers(M * K, "a"), b = numbers(N * K, "b");
  Made made{std::vector<float>(static_cast<std::size_t>(M * (N + 3)), -7.0f), N + 3};
  Bf16Product p{.rows = M,
                .columns = N,
                .depth = K,
                .a = a.data(),
                .b = b.data(),
                .out = made.out.data(),
                .out_stride = made.stride};
  std::vector<std::uint32_t> packed(static_cast<std::size_t>(p.packed_size()), 0xdeadbeef);
  p.packed = packed.data();
  for (std::int64_t panel = 0; panel < p.panels(); ++panel) pack_bf16(p, panel);
  bf16_product(p, 0, cut);
  bf16_product(p, cut, M);
  return made;
}

TEST(Bf16Product, IsTheSumOfProducts) {
  if (!has_bf16_product())
    GTEST_SKIP() << "this processor, or CRESCO_CPU_KERNELS, has no AVX-512 BF16";
  struct {
    std::int64_t M, N, K;
  } const sizes[] = {{1, 1, 2}, {6, 64, 32}, {7, 65, 16}, {13, 100, 530}, {20, 31, 1200}};
  for (const auto& [M, N, K] : sizes) {
    SCOPED_TRACE(testing::Message() << M << " " << N << " " << K);
    const auto a = numbers(M * K, "a"), b = numbers(N * K, "b");
    const Made made = product_of(M, N, K, M);
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
        EXPECT_NEAR(made.out[static_cast<std::size_t>(m * made.stride + n)], sum, 1e-6 * size);
      }
      for (std::int64_t n = N; n < made.stride; ++n)  // nothing beside the result is written
        EXPECT_EQ(made.out[static_cast<std::size_t>(m * made.stride + n)], -7.0f);
    }
  }
}

TEST(Bf16Product, DoesNotDependOnHowRowsAreCut) {
  if (!has_bf16_product())
    GTEST_SKIP() << "this processor, or CRESCO_CPU_KERNELS, has no AVX-512 BF16";
  const Made whole = product_of(20, 70, 700, 20), cut = product_of(20, 70, 700, 9);
  EXPECT_EQ(whole.out, cut.out);
}

}  // namespace
}  // namespace cresco::kernels
