#include "cresco/dictionaries/quality.h"

#include "cresco/dictionaries/crosscoder_reference.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

TEST(Quality, IsThatKnownForTheFixture) {
  reference::Fixture f;
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kDouble, 1e-11}, std::pair{at::kFloat, 2e-6}}) {
    const Crosscoder crosscoder(reference::parameters_of(f.sizes, f.weights, dtype));
    const Quality q = measure_quality(crosscoder, reference::tensor_of(f.x, {4, 2, 3}, dtype));
    EXPECT_NEAR(q.explained_variance_pooled, -1.419768236831, 1.5 * tolerance);
    EXPECT_NEAR(q.reconstruction_mse, 2.726106737940, 3 * tolerance);
    EXPECT_EQ(q.l0, 1.625);
    EXPECT_EQ(q.dead_rate, 0);
    EXPECT_EQ(q.num_rows, 4);
    EXPECT_EQ(q.snapshots[0].l0, 1.25);
    EXPECT_EQ(q.snapshots[1].l0, 2);
    EXPECT_EQ(q.snapshots[0].dead_rate, 0.4);
    EXPECT_EQ(q.snapshots[1].dead_rate, 0);
  }
}

Crosscoder random_crosscoder(std::int64_t K, std::int64_t D, std::int64_t F) {
  return Crosscoder({toy::normal({K, D, F}, 0, "W_E") * 0.2, toy::normal({K, F}, 0, "b_E") * 0.1,
                     toy::normal({K, F, D}, 0, "W_D") * 0.2, toy::normal({K, D}, 0, "b_D") * 0.1,
                     at::full({F}, std::log(0.1))});
}

TEST(Quality, DoesNotDependOnTheBlock) {
  const Crosscoder crosscoder = random_crosscoder(3, 8, 40);
  const at::Tensor x_VKD = toy::normal({300, 3, 8}, 1, "x");
  const Quality whole = measure_quality(crosscoder, x_VKD),
                small = measure_quality(crosscoder, x_VKD, 1 << 14);
  EXPECT_NEAR(whole.explained_variance_pooled, small.explained_variance_pooled, 1e-7);
  EXPECT_EQ(whole.l0, small.l0);
  EXPECT_TRUE(at::equal(whole.rates_KF, small.rates_KF));
  for (std::size_t k = 0; k < 3; ++k)
    EXPECT_NEAR(whole.snapshots[k].explained_variance, small.snapshots[k].explained_variance, 1e-7);
}

TEST(Quality, DoesNotDependOnTheOrderOfRows) {
  const Crosscoder crosscoder = random_crosscoder(2, 8, 40);
  const at::Tensor x_VKD = toy::normal({300, 2, 8}, 1, "x");
  const Quality a = measure_quality(crosscoder, x_VKD),
                b = measure_quality(crosscoder, x_VKD.flip(0).contiguous());
  EXPECT_NEAR(a.explained_variance_pooled, b.explained_variance_pooled, 1e-7);
  EXPECT_EQ(a.l0, b.l0);
}

TEST(Quality, OfAnExactAutoencoderIsOne) {
  const std::int64_t D = 12;
  const Crosscoder identity({at::eye(D).unsqueeze(0), at::full({1, D}, 10.0f),
                             at::eye(D).unsqueeze(0), at::full({1, D}, -10.0f),
                             at::full({D}, std::log(1e-3))});
  const Quality q = measure_quality(identity, toy::normal({200, 1, D}, 0, "x"));
  EXPECT_NEAR(q.explained_variance_pooled, 1, 1e-10);
  EXPECT_NEAR(q.snapshots[0].explained_variance, 1, 1e-10);
  EXPECT_EQ(q.l0, D);
}

TEST(Quality, OfNothingToExplainIsDefined) {
  const Quality q = measure_quality(random_crosscoder(1, 4, 10), at::zeros({20, 1, 4}));
  EXPECT_EQ(q.explained_variance_pooled, 0);
  EXPECT_TRUE(std::isnan(q.snapshots[0].explained_variance));
  EXPECT_TRUE(std::isfinite(q.reconstruction_mse));
}

}  // namespace
}  // namespace cresco::dictionaries
