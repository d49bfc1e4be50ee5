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

// Three trained snapshots, two held out between them, one beyond and one that was trained on.
struct Setting {
  TemporaryFolder folder;
  std::vector<at::Tensor> matrices, others;
  Dictionary dictionary;
  PreprocessedStack whole;

  explicit Setting(ActivationKind kind = ActivationKind::JumpRelu) {
    for (const char* name : {"a", "b", "c"})
      matrices.push_back(toy::normal({80, 6}, 0, name) * 2 + 3);
    for (const char* name : {"d", "e", "f", "g"})
      others.push_back(toy::normal({80, 6}, 0, name) + 1);
    toy::write_stack(folder / "s", matrices, {10, 1000, 9000});
    toy::write_stack(folder / "h", others, {100, 1000, 3000, 10000});
    dictionary.steps = {10, 1000, 9000};
    dictionary.activation = {kind, 3, 8};
    dictionary.parameters = {
        toy::normal({3, 6, 15}, 0, "W_E") * 0.5, toy::normal({3, 15}, 0, "b_E") * 0.1,
        toy::normal({3, 15, 6}, 0, "W_D") * 0.3, toy::normal({3, 6}, 0, "b_D")};
    if (dictionary.activation.has_threshold())
      dictionary.parameters.log_threshold_F = at::full({15}, std::log(0.5));
    whole =
        preprocess_stack(trajectories::Stack(folder / "s"), {0, 1, 2}, "center_scale", at::kCPU);
  }
  std::vector<HeldoutQuality> measure(std::int64_t block_bytes = 1 << 20,
                                      const TrajectoryPca* pca = nullptr) const {
    const trajectories::Stack stack(folder / "s");
    const StackRows rows(stack, {0, 1, 2}, "center_scale", block_bytes);
    return measure_heldout(dictionary, rows, trajectories::Stack(folder / "h"),
                           {.at_l0 = pca, .seed = 4, .done = {}});
  }
};

double explained(const at::Tensor& x, const at::Tensor& r) {
  return 1 - (x - r).to(at::kDouble).var().item<double>() / x.to(at::kDouble).var().item<double>();
}

double share(double step, double low, double high) {
  return std::log((1 + step) / (1 + low)) / std::log((1 + high) / (1 + low));
}

// The second of the held-out steps by its formulas, whole matrices at a time.
TEST(Heldout, AddsASyntheticHeadToTheTrainedOnes) {
  for (const ActivationKind kind : {ActivationKind::JumpRelu, ActivationKind::SharedJumpRelu,
                                    ActivationKind::BatchTopK, ActivationKind::Relu}) {
    const Setting s(kind);
    const at::Tensor& held_out = s.others[2];
    const double w = share(3000, 1000, 9000);
    const auto own = snapshot_statistics(held_out, "center_scale");
    const at::Tensor x_VD = preprocess(held_out, own);
    const Crosscoder crosscoder = s.dictionary.crosscoder();
    const auto& p = s.dictionary.parameters;
    const auto with_head = [&](double weight) {
      const auto mixed = [&](const at::Tensor& t) { return t[1] * (1 - weight) + t[2] * weight; };
      const at::Tensor pre = crosscoder.pre_activation(s.whole.x_VKD) +
                             x_VD.mm(mixed(p.encoder_KDF)) + mixed(p.encoder_bias_KF);
      const at::Tensor decoder = mixed(p.decoder_KFD);
      const at::Tensor code = kind == ActivationKind::JumpRelu
                                  ? pre * (pre * decoder.norm(2, -1)).gt(0.5)
                                  : crosscoder.codes(pre, 0);
      const at::Tensor r = restore(code.mm(decoder) + mixed(p.decoder_bias_KD), own);
      return std::pair{explained(held_out, r), (r - held_out).norm(2, 1).to(at::kDouble)};
    };
    for (const std::int64_t block_bytes : {1, 20'000, 1 << 20}) {
      const auto all = s.measure(block_bytes);
      ASSERT_EQ(all.size(), 2u);
      EXPECT_EQ(all[0].step, 100);
      EXPECT_EQ(all[0].step_after, 1000);
      const HeldoutQuality& q = all[1];
      EXPECT_EQ(q.step_before, 1000);
      EXPECT_EQ(q.step_after, 9000);
      EXPECT_NEAR(q.alpha_log, w, 1e-12);
      EXPECT_NEAR(q.synthetic_head, with_head(w).first, 1e-4) << name_of(kind);
      EXPECT_NEAR(q.nearest_head, with_head(w < 0.5 ? 0 : 1).first, 1e-4);
      EXPECT_TRUE(at::allclose(q.residual_norm_5V[0], with_head(w).second, 1e-3, 1e-4));
      EXPECT_NEAR(q.direct_interpolation,
                  explained(held_out, s.matrices[1] * (1 - w) + s.matrices[2] * w), 1e-6);
      const double e = share(3000, 10, 9000);
      EXPECT_NEAR(q.endpoint, explained(held_out, s.matrices[0] * (1 - e) + s.matrices[2] * e),
                  1e-6);
      EXPECT_TRUE(at::allclose(q.row_norm_V, held_out.to(at::kDouble).norm(2, 1)));
      EXPECT_TRUE(std::isnan(q.pca_at_l0));
    }
  }
}

TEST(Heldout, MeasuresTheNeighboursAtTheirOwnHeads) {
  const Setting s;
  const HeldoutQuality q = s.measure()[1];
  const at::Tensor r_VKD = s.dictionary.crosscoder().reconstruct(s.whole.x_VKD);
  EXPECT_NEAR(q.before,
              explained(s.matrices[1], restore(r_VKD.select(1, 1), s.whole.statistics[1])), 1e-5);
  EXPECT_NEAR(q.after, explained(s.matrices[2], restore(r_VKD.select(1, 2), s.whole.statistics[2])),
              1e-5);
  EXPECT_NEAR(q.before_normalized, explained(s.whole.x_VKD.select(1, 1), r_VKD.select(1, 1)), 1e-5);
  EXPECT_NEAR(q.after_normalized, explained(s.whole.x_VKD.select(1, 2), r_VKD.select(1, 2)), 1e-5);
}

TEST(Heldout, InterpolatesTheLoadingsOfThePca) {
  const Setting s;
  const TrajectoryPca pca = TrajectorySpectrum(rows_in_memory(s.whole.x_VKD)).at_rank(18);
  const double w = share(3000, 1000, 9000);
  const at::Tensor mixed_VD = s.whole.x_VKD.select(1, 1) * (1 - w) + s.whole.x_VKD.select(1, 2) * w;
  const auto own = snapshot_statistics(s.others[2], "center_scale");
  EXPECT_NEAR(s.measure(9000, &pca)[1].pca_at_l0, explained(s.others[2], restore(mixed_VD, own)),
              1e-4);  // all eighteen: exact
}

// Rows with two strong directions in a space of six; a snapshot of twice the rows adds a third,
// from the one's mean to the other's.
TEST(Heldout, FindsTheDirectionsOfTheTrainedRows) {
  const at::Tensor plane = std::get<0>(at::linalg_qr(toy::normal({6, 2}, 0, "plane")));
  const at::Tensor x_VD = 5 * toy::normal({300, 2}, 0, "scores").mm(plane.t()) +
                          0.01 * toy::normal({300, 6}, 0, "noise") + 40;
  Rows rows = rows_in_memory(at::stack({x_VD, x_VD * 2}, 1));
  rows.mean_KD = at::stack({x_VD, x_VD * 2}).to(at::kDouble).mean(1);
  const at::Tensor all_ND = at::cat({x_VD, x_VD * 2}).to(at::kDouble);
  const auto [u, values, exact] = at::linalg_svd(all_ND - all_ND.mean(0), false);
  const at::Tensor exact_RD = exact.slice(0, 0, 3);
  for (const std::int64_t block : {64, 1000}) {
    const RowDirections made = row_directions(rows, 3, 0, block);
    const at::Tensor q_DR = made.direction_DR.to(at::kDouble);
    EXPECT_TRUE(at::allclose(q_DR.t().mm(q_DR), at::eye(3, at::kDouble), 0, 1e-6));
    EXPECT_TRUE(at::allclose(q_DR.mm(q_DR.t()), exact_RD.t().mm(exact_RD), 0, 1e-4));
    EXPECT_TRUE(at::allclose(made.mean_D.to(at::kDouble), all_ND.mean(0), 1e-6, 0));
  }
}

TEST(Heldout, OfAPcaOfAllDimensionsLosesNothing) {
  const HeldoutQuality q = Setting().measure()[0];
  EXPECT_NEAR(q.pca_rank50, 1, 1e-9);
  EXPECT_LT(q.residual_norm_5V[4].max().item<double>(), 1e-4);
}

TEST(Heldout, LeavesOutStepsThatWereTrainedOrLieOutside) {
  Setting s;
  toy::write_stack(s.folder / "h", {s.others[0], s.others[1]}, {1000, 10000});
  EXPECT_THROW(s.measure(), Error);
  toy::write_stack(s.folder / "h", s.others, {10, 100, 3000, 10000});
  const HeldoutSteps steps = heldout_steps(trajectories::Stack(s.folder / "h"),
                                           trajectories::Stack(s.folder / "s"), s.dictionary.steps);
  EXPECT_EQ(steps.snapshots, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(steps.left_out, (std::vector<std::int64_t>{10, 10000}));
  EXPECT_EQ(s.measure().size(), 2u);
  toy::write_stack(s.folder / "h", {toy::normal({80, 7}, 0, "x")}, {100});
  EXPECT_THROW(s.measure(), Error);
}

}  // namespace
}  // namespace cresco::dictionaries
