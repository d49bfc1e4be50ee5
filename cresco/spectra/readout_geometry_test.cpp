#include "cresco/spectra/readout_geometry.h"

#include "cresco/spectra/weight_spectra.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::spectra {
namespace {

// Rows along the axes: norms and singular values are what is written.
TEST(ReadoutGeometry, OfRowsAlongTheAxes) {
  const at::Tensor w = at::zeros({6, 2});
  const double values[6] = {1, 1, 2, 3, 4, 0};
  for (int v = 0; v < 6; ++v) w[v][v % 2] = values[v];
  const auto g =
      readout_geometry(w, weight_spectrum(w).singular_values, 2 * w, at::tensor({3.0F, -4.0F}));
  EXPECT_DOUBLE_EQ(g.rn_mean, 11.0 / 6);
  EXPECT_DOUBLE_EQ(g.rn_med, 1);  // the lower of 1 and 2
  EXPECT_DOUBLE_EQ(g.rn_max, 4);
  EXPECT_DOUBLE_EQ(g.rn_tail_frac, 0.5);  // 2, 3 and 4 are beyond 1.5
  double squares = 0;
  for (const double value : values) squares += (value - 11.0 / 6) * (value - 11.0 / 6);
  EXPECT_NEAR(g.rn_std, std::sqrt(squares / 5), 1e-12);
  // Columns 1, 2, 4 and 1, 3, 0.
  const double s1 = std::sqrt(21.0), s2 = std::sqrt(10.0);
  EXPECT_NEAR(g.s1, s1, 1e-12);
  EXPECT_NEAR(g.s2v, s2, 1e-12);
  EXPECT_NEAR(g.stable_rank, 31.0 / 21, 1e-12);
  EXPECT_NEAR(g.top1_frac, 21.0 / 31, 1e-12);
  const double p = s1 / (s1 + s2), q = 1 - p;
  EXPECT_NEAR(g.eff_rank, std::exp(-p * std::log(p) - q * std::log(q)), 1e-9);
  EXPECT_DOUBLE_EQ(g.we_rn_mean, 11.0 / 3);
  EXPECT_DOUBLE_EQ(g.lnf_norm, 5);
  EXPECT_DOUBLE_EQ(g.lnf_max, 3);
}

TEST(ReadoutGeometry, OfZerosIsZero) {
  const auto g =
      readout_geometry(at::zeros({4, 3}), at::zeros({3}), at::zeros({4, 3}), at::ones({3}));
  EXPECT_EQ(g.stable_rank, 0);
  EXPECT_EQ(g.eff_rank, 0);
  EXPECT_EQ(g.rn_tail_frac, 0);
}

}  // namespace
}  // namespace cresco::spectra
