#include "cresco/lifecycle/decoder_geometry.h"

#include "cresco/dictionaries/crosscoder_reference.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::lifecycle {
namespace {

using dictionaries::reference::Fixture;

TEST(FiringRates, AreThoseKnownForTheFixture) {
  Fixture f;
  const dictionaries::Crosscoder crosscoder(
      dictionaries::reference::parameters_of(f.sizes, f.weights, at::kFloat));
  const at::Tensor rates =
      firing_rates(crosscoder, dictionaries::reference::tensor_of(f.x, {4, 2, 3}, at::kFloat));
  const at::Tensor expected =
      at::tensor({.5, .25, .5, 0., 0., .5, .25, .5, .25, .5}, at::kDouble).reshape({2, 5});
  EXPECT_TRUE(at::equal(rates, expected));
}

TEST(FiringRates, CountRowsWhereThePreActivationPassesThresholdByNorm) {
  at::manual_seed(1);
  const dictionaries::Crosscoder crosscoder({at::randn({3, 8, 20}), at::randn({3, 20}),
                                             at::randn({3, 20, 8}), at::randn({3, 8}),
                                             at::randn({20})});
  const at::Tensor x_VKD = at::randn({500, 3, 8});
  const at::Tensor p = at::einsum("vkd,kdf->vf", {x_VKD, crosscoder.parameters().encoder_KDF}) +
                       crosscoder.parameters().encoder_bias_KF.sum(0);
  const at::Tensor norms = decoder_norms(crosscoder.parameters().decoder_KFD);
  const at::Tensor limit = crosscoder.parameters().log_threshold_F.exp() / norms.clamp_min(1e-12);
  const at::Tensor rates = p.unsqueeze(1).gt(limit.unsqueeze(0)).to(at::kDouble).mean(0);
  EXPECT_LE((firing_rates(crosscoder, x_VKD) - rates).abs().max().item<double>(), 1e-7);
}

TEST(DecoderGeometry, MeasuresAnglesAndSurvivesZeroRows) {
  const at::Tensor decoder_KFD =
      at::tensor({3.f, 0.f, 0.f, 0.f, 0.f, 2.f, 1.f, 1.f, 0.f, -1.f, 0.f, 0.f}).reshape({3, 2, 2});
  const at::Tensor norms = decoder_norms(decoder_KFD), rotation = adjacent_rotation(decoder_KFD);
  EXPECT_DOUBLE_EQ(norms[0][0].item<double>(), 3);
  EXPECT_NEAR(rotation[0][0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(rotation[1][0].item<double>(), 2, 1e-9);
  EXPECT_EQ(rotation[0][1].item<double>(), 1);  // nothing has no direction
  EXPECT_NEAR(distance_to_terminal(decoder_KFD)[2][0].item<double>(), 0, 1e-9);
  EXPECT_TRUE(distance_to_terminal(decoder_KFD).isfinite().all().item<bool>());
  EXPECT_EQ(adjacent_rotation(decoder_KFD.narrow(0, 0, 1)).size(0), 0);
}

}  // namespace
}  // namespace cresco::lifecycle
