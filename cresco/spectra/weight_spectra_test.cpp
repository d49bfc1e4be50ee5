#include "cresco/spectra/weight_spectra.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::spectra {
namespace {

at::Tensor random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  at::manual_seed(seed);
  return at::randn({rows, columns}, at::kDouble);
}

void expect_near(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  ASSERT_EQ(a.sizes(), b.sizes());
  EXPECT_LE((a - b).abs().max().item<double>(), tolerance);
}

TEST(WeightSpectrum, OfADiagonalIsTheDiagonal) {
  const auto s = weight_spectrum(at::diag(at::tensor({1.0, -4.0, 2.0, 0.0}, at::kDouble)));
  expect_near(s.singular_values, at::tensor({4.0, 2.0, 1.0, 0.0}, at::kDouble), 1e-12);
  EXPECT_NEAR(s.frobenius_norm, std::sqrt(21), 1e-12);
  EXPECT_NEAR(s.spectral_norm, 4, 1e-12);
  EXPECT_NEAR(s.stable_rank, 21.0 / 16, 1e-12);
  const double entropy =
      -(16 * std::log(16 / 21.) + 4 * std::log(4 / 21.) + std::log(1 / 21.)) / 21;
  EXPECT_NEAR(s.effective_rank, std::exp(entropy), 1e-12);
}

TEST(WeightSpectrum, IsThatOfTheSvd) {
  const at::Tensor a = random_matrix(5000, 40, 1);
  expect_near(weight_spectrum(a).singular_values, at::linalg_svdvals(a), 1e-9);
}

TEST(WeightSpectrum, IsThatOfTheTranspose) {
  const at::Tensor a = random_matrix(30, 70, 2);
  expect_near(weight_spectrum(a).singular_values, weight_spectrum(a.t()).singular_values, 1e-12);
}

TEST(WeightSpectrum, DoesNotChangeWhenTheMatrixIsRotated) {
  const at::Tensor a = random_matrix(60, 20, 3);
  const auto [q, r] = at::linalg_qr(random_matrix(20, 20, 4));
  const auto before = weight_spectrum(a), after = weight_spectrum(a.mm(q));
  expect_near(before.singular_values, after.singular_values, 1e-10);
  EXPECT_NEAR(before.effective_rank, after.effective_rank, 1e-9);
}

TEST(WeightSpectrum, ScalesWithTheMatrixAndItsRanksDoNot) {
  const at::Tensor a = random_matrix(60, 20, 5);
  const auto one = weight_spectrum(a), three = weight_spectrum(3 * a);
  expect_near(3 * one.singular_values, three.singular_values, 1e-10);
  EXPECT_NEAR(3 * one.spectral_norm, three.spectral_norm, 1e-10);
  EXPECT_NEAR(one.stable_rank, three.stable_rank, 1e-10);
  EXPECT_NEAR(one.effective_rank, three.effective_rank, 1e-10);
}

TEST(WeightSpectrum, HasRanksInOrder) {
  const auto s = weight_spectrum(random_matrix(60, 20, 6));
  EXPECT_LE(1, s.stable_rank);
  EXPECT_LE(s.stable_rank, s.effective_rank);
  EXPECT_LE(s.effective_rank, 20);
  const auto orthogonal = weight_spectrum(at::eye(7));
  EXPECT_NEAR(orthogonal.stable_rank, 7, 1e-12);
  EXPECT_NEAR(orthogonal.effective_rank, 7, 1e-12);
}

TEST(WeightSpectrum, OfNothingIsZero) {
  const auto s = weight_spectrum(at::zeros({3, 2}));
  EXPECT_EQ(s.frobenius_norm, 0);
  EXPECT_EQ(s.stable_rank, 0);
  EXPECT_EQ(s.effective_rank, 0);
}

}  // namespace
}  // namespace cresco::spectra
