#include "cresco/dictionaries/random_source.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

TEST(TorchStream, GivesThePermutationsThatLibTorchGives) {
  for (const std::uint64_t seed : {0, 1, 12345}) {
    const at::Generator torch = at::detail::createCPUGenerator(seed);
    RowOrder order(RandomKind::Torch, seed, 50304);
    for (std::int64_t epoch = 0; epoch < 2; ++epoch)
      EXPECT_TRUE(at::equal(order.of_epoch(epoch), at::randperm(50304, torch, at::kLong))) << seed;
  }
}

TEST(TorchStream, GivesTheUniformsThatLibTorchGives) {
  const at::Generator torch = at::detail::createCPUGenerator(7);
  const auto drawn = draw_initial_matrices(RandomKind::Torch, 7, 20, 50);
  EXPECT_TRUE(at::equal(drawn.encoder_DF, at::empty({20, 50}).uniform_(
                                              -1 / std::sqrt(20.0), 1 / std::sqrt(20.0), torch)));
  EXPECT_TRUE(at::equal(drawn.decoder_FD, at::empty({50, 20}).uniform_(
                                              -1 / std::sqrt(50.0), 1 / std::sqrt(50.0), torch)));
}

TEST(RowOrder, OfAnEpochDoesNotDependOnThoseAskedBefore) {
  for (const RandomKind kind : {RandomKind::Philox, RandomKind::Torch}) {
    RowOrder straight(kind, 3, 100), jumping(kind, 3, 100);
    std::vector<at::Tensor> orders;
    for (std::int64_t epoch = 0; epoch < 5; ++epoch) orders.push_back(straight.of_epoch(epoch));
    for (const std::int64_t epoch : {4, 1, 3, 0})
      EXPECT_TRUE(at::equal(jumping.of_epoch(epoch), orders[static_cast<std::size_t>(epoch)]));
    EXPECT_FALSE(at::equal(orders[0], orders[1]));
    EXPECT_TRUE(at::equal(std::get<0>(orders[2].sort()), at::arange(100)));
  }
}

// 100,000 uniforms: mean and largest within four standard errors, or as near to the bound as that
// many get.
TEST(InitialMatrices, AreUniformBetweenTheirBounds) {
  const at::Tensor decoder = draw_initial_matrices(RandomKind::Philox, 0, 250, 400).decoder_FD;
  EXPECT_NEAR(decoder.mean().item<double>(), 0, 4 * 0.05 / std::sqrt(3.0 * 1e5));
  EXPECT_LT(decoder.abs().max().item<double>(), 0.05 + 1e-9);
  EXPECT_GT(decoder.abs().max().item<double>(), 0.0499);
  // So a row has length sqrt(D / (3 F)).
  EXPECT_NEAR(decoder.norm(2, -1).mean().item<double>(), std::sqrt(250 / 1200.0), 0.01);
}

TEST(RandomKind, IsOneOfTwo) { EXPECT_THROW(random_kind("pcg"), UsageError); }

}  // namespace
}  // namespace cresco::dictionaries
