#include "cresco/dictionaries/heldout.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

TEST(Neighbours, LieOnTheLogarithmOfTheStep) {
  const auto near = neighbours_of(10, {0, 3, 99});
  ASSERT_TRUE(near.has_value());
  EXPECT_EQ(near->before, 1);
  EXPECT_EQ(near->after, 2);
  EXPECT_NEAR(near->weight, std::log(11 / 4.0) / std::log(25.0), 1e-12);
  EXPECT_FALSE(neighbours_of(3, {0, 3, 99}).has_value());
  EXPECT_FALSE(neighbours_of(100, {0, 3, 99}).has_value());
  EXPECT_FALSE(neighbours_of(1, {3, 99}).has_value());
}

// Two trained snapshots of V rows, a held-out one between them.
struct Setting {
  TemporaryFolder folder;
  std::vector<at::Tensor> matrices{toy::normal({80, 6}, 0, "a"), toy::normal({80, 6}, 0, "b")};
  at::Tensor held_out = toy::normal({80, 6}, 0, "c") + 1;
  Dictionary dictionary;
  PreprocessedStack trained;

  Setting() {
    toy::write_stack(folder / "s", matrices, {10, 1000});
    dictionary.steps = {10, 1000};
    dictionary.parameters = {toy::normal({2, 6, 15}, 0, "W_E"), toy::normal({2, 15}, 0, "b_E"),
                             toy::normal({2, 15, 6}, 0, "W_D") * 0.3, toy::normal({2, 6}, 0, "b_D"),
                             at::full({15}, std::log(0.1))};
    trained = preprocess_stack(trajectories::Stack(folder / "s"), {0, 1}, "center_scale", at::kCPU);
  }
  HeldoutQuality measure(const TrajectoryPca* pca = nullptr) const {
    return measure_heldout(dictionary, trained, held_out, matrices[0], matrices[1], 100, pca);
  }
};

double explained(const at::Tensor& x, const at::Tensor& r) {
  return 1 - (x - r).to(at::kDouble).var().item<double>() / x.to(at::kDouble).var().item<double>();
}

TEST(Heldout, AddsASyntheticHeadToTheTrainedOnes) {
  const Setting s;
  const HeldoutQuality q = s.measure();
  const double w = std::log(101 / 11.0) / std::log(1001 / 11.0);
  EXPECT_EQ(q.step_before, 10);
  EXPECT_EQ(q.step_after, 1000);
  EXPECT_NEAR(q.alpha_log, w, 1e-12);
  EXPECT_NEAR(q.direct_interpolation,
              explained(s.held_out, s.matrices[0] * (1 - w) + s.matrices[1] * w), 1e-6);
  EXPECT_TRUE(std::isnan(q.pca));

  const auto own = snapshot_statistics(s.held_out, "center_scale");
  const at::Tensor x_VD = preprocess(s.held_out, own);
  const auto& p = s.dictionary.parameters;
  const auto mixed = [&](const at::Tensor& t) { return t[0] * (1 - w) + t[1] * w; };
  const at::Tensor pre = at::einsum("vkd,kdf->vf", {s.trained.x_VKD, p.encoder_KDF}) +
                         p.encoder_bias_KF.sum(0) + x_VD.mm(mixed(p.encoder_KDF)) +
                         mixed(p.encoder_bias_KF);
  const at::Tensor decoder = mixed(p.decoder_KFD);
  const at::Tensor code = pre * (pre * decoder.norm(2, -1)).gt(0.1);
  EXPECT_NEAR(q.synthetic_head,
              explained(s.held_out, restore(code.mm(decoder) + mixed(p.decoder_bias_KD), own)),
              1e-4);
}

TEST(Heldout, MeasuresTheNeighboursAtTheirOwnHeads) {
  const Setting s;
  const HeldoutQuality q = s.measure();
  const at::Tensor r_VKD = Crosscoder(s.dictionary.parameters).reconstruct(s.trained.x_VKD);
  EXPECT_NEAR(q.before,
              explained(s.matrices[0], restore(r_VKD.select(1, 0), s.trained.statistics[0])), 1e-5);
  EXPECT_NEAR(q.after,
              explained(s.matrices[1], restore(r_VKD.select(1, 1), s.trained.statistics[1])), 1e-5);
}

TEST(Heldout, InterpolatesTheLoadingsOfThePca) {
  const Setting s;
  const TrajectoryPca pca = TrajectorySpectrum(rows_in_memory(s.trained.x_VKD)).at_rank(12);
  const double w = std::log(101 / 11.0) / std::log(1001 / 11.0);
  const at::Tensor mixed_VD =
      s.trained.x_VKD.select(1, 0) * (1 - w) + s.trained.x_VKD.select(1, 1) * w;
  const auto own = snapshot_statistics(s.held_out, "center_scale");
  EXPECT_NEAR(s.measure(&pca).pca, explained(s.held_out, restore(mixed_VD, own)),
              1e-4);  // all twelve: exact
}

TEST(Heldout, RefusesAStepOutsideTheTrainedOnes) {
  const Setting s;
  EXPECT_THROW(measure_heldout(s.dictionary, s.trained, s.held_out, s.matrices[0], s.matrices[1],
                               5000, nullptr),
               Error);
}

}  // namespace
}  // namespace cresco::dictionaries
