#include "cresco/dictionaries/quality.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/crosscoder_reference.h"
#include "cresco/dictionaries/toy_stack.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

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

// The definitions, written down as they stand in docs/metrics.md, on everything at once.
std::map<std::string, double> slow_definitions(const at::Tensor& x_VKD, const at::Tensor& r_VKD,
                                               const at::Tensor& open_VKF,
                                               const at::Tensor& shared_VKD,
                                               const at::Tensor& shared_open_VKF,
                                               std::int64_t batch_rows) {
  const auto number = [](const at::Tensor& t) { return t.to(at::kDouble).item<double>(); };
  const at::Tensor error = r_VKD - x_VKD, shared_error = shared_VKD - x_VKD;
  const at::Tensor centred = x_VKD - x_VKD.mean(0);
  const at::Tensor rates_KF = open_VKF.to(at::kDouble).mean(0);
  std::map<std::string, double> out;
  double mse = 0, variance = 0, l0 = 0, batches = 0;
  for (std::int64_t v = 0; v < x_VKD.size(0); v += batch_rows, ++batches) {
    mse += number(error.slice(0, v, v + batch_rows).square().mean());
    variance += number(x_VKD.slice(0, v, v + batch_rows).var());
    l0 += number(open_VKF.slice(0, v, v + batch_rows).sum(2).to(at::kDouble).mean());
  }
  out["explained_variance_batch"] = 1 - mse / variance;
  out["reconstruction_mse_batch"] = mse / batches;
  out["l0_batch"] = l0 / batches;
  out["explained_variance_canon"] = 1 - number(error.square().sum() / x_VKD.square().sum());
  std::vector<double> plane, phase2, nrmse;
  for (std::int64_t k = 0; k < x_VKD.size(1); ++k) {
    const at::Tensor x = x_VKD.select(1, k), e = error.select(1, k), s = shared_error.select(1, k);
    plane.push_back(1 - number(e.var() / x.var()));
    phase2.push_back(1 - number(s.var() / x.var()));
    nrmse.push_back(number(s.norm() / x.norm()));
    const std::string at = fmt::format("{} ", k);
    out[at + "explained_variance"] =
        1 - number(e.square().sum() / centred.select(1, k).square().sum());
    out[at + "l0"] = number(open_VKF.select(1, k).sum(1).to(at::kDouble).mean());
    out[at + "dead_rate_1e-4"] = number(rates_KF[k].lt(1e-4).to(at::kDouble).mean());
    out[at + "reconstruction_mse"] = number(e.square().mean());
    out[at + "explained_variance_canon"] = 1 - number(e.square().sum() / x.square().sum());
    out[at + "explained_variance_phase_plane"] = plane.back();
    out[at + "explained_variance_phase2"] = phase2.back();
    out[at + "nrmse_phase2"] = nrmse.back();
    out[at + "l0_phase2"] = number(shared_open_VKF.select(1, k).sum(1).to(at::kDouble).mean());
    out[at + "fvu"] = number(e.square().sum() / centred.select(1, k).square().sum());
    out[at + "explained_variance_saelens"] =
        1 - number(e.square().sum() / centred.select(1, k).square().sum());
    out[at + "explained_variance_saelens_legacy"] =
        number((1 - e.square().sum(1) / centred.select(1, k).square().sum(1)).mean());
    out[at + "frac_variance_explained"] = 1 - number(e.var(0).sum() / x.var(0).sum());
    out[at + "dead_rate_1e-6"] = number(rates_KF[k].le(1e-6).to(at::kDouble).mean());
    out[at + "dead_rate_never"] = number(rates_KF[k].eq(0).to(at::kDouble).mean());
  }
  const auto spread = [&](const std::string& id, const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    out[id + "_mean"] = sum / static_cast<double>(values.size());
    out[id + "_min"] = *std::min_element(values.begin(), values.end());
    out[id + "_max"] = *std::max_element(values.begin(), values.end());
  };
  spread("explained_variance_phase_plane", plane);
  spread("explained_variance_phase2", phase2);
  spread("nrmse_phase2", nrmse);
  out["explained_variance_pooled"] =
      1 - number(error.square().sum() / (x_VKD - x_VKD.mean()).square().sum());
  out["l0"] = number(open_VKF.sum(2).to(at::kDouble).mean());
  out["l0_phase2"] = number(shared_open_VKF.sum(2).to(at::kDouble).mean());
  out["reconstruction_mse"] = number(error.square().mean());
  out["explained_variance_saelens"] = 1 - number(error.square().sum() / centred.square().sum());
  out["explained_variance_saelens_legacy"] =
      number((1 - error.square().sum(2) / centred.square().sum(2)).mean());
  out["frac_variance_explained"] = 1 - number(error.var(0).sum() / x_VKD.var(0).sum());
  out["fvu"] = number(error.square().sum() / centred.square().sum());
  out["dead_rate_1e-6"] = number(rates_KF.mean(0).le(1e-6).to(at::kDouble).mean());
  out["dead_rate_max_1e-4"] = number(rates_KF.amax(0).lt(1e-4).to(at::kDouble).mean());
  out["dead_rate_never"] = number(rates_KF.amax(0).eq(0).to(at::kDouble).mean());
  out["dead_rate_phase2"] =
      number(shared_open_VKF.flatten(0, 1).any(0).logical_not().to(at::kDouble).mean());
  return out;
}

// All of them for one activation; features 0 and 1 never fire.
void expect_all_definitions(const Activation& activation) {
  const std::int64_t V = 33, K = 3, D = 5, F = 14, slice = 8;
  const auto draw = [](at::IntArrayRef shape, const char* name) {
    return toy::normal(shape, 7, name).to(at::kDouble);
  };
  CrosscoderParameters parameters{draw({K, D, F}, "W_E") * 0.4, draw({K, F}, "b_E") * 0.1,
                                  draw({K, F, D}, "W_D") * 0.3, draw({K, D}, "b_D") * 0.1,
                                  at::full({F}, std::log(0.3), at::kDouble)};
  parameters.encoder_KDF.slice(2, 0, 2).zero_();
  parameters.encoder_bias_KF.slice(1, 0, 2).fill_(-1);
  if (!activation.has_threshold()) parameters.log_threshold_F.reset();
  if (activation.kind == ActivationKind::Gated) {
    parameters.gate_bias_F = draw({F}, "b_gate") * 0.1;
    parameters.log_magnitude_F = draw({F}, "r_mag") * 0.1;
    parameters.magnitude_bias_F = draw({F}, "b_mag") * 0.1;
  }
  const Crosscoder crosscoder(parameters, activation);
  const at::Tensor x_VKD = draw({V, K, D}, "x") + 0.5;

  // p, then codes and reconstructions head by head; batches of BatchTopK by hand.
  const at::Tensor p_VF = at::einsum("vkd,kdf->vf", {x_VKD, parameters.encoder_KDF}) +
                          parameters.encoder_bias_KF.sum(0);
  const auto largest = [](const at::Tensor& p_BF, std::int64_t count) {
    const at::Tensor positive = at::relu(p_BF);
    const double least = std::get<0>(positive.flatten().topk(count)).min().item<double>();
    return positive * positive.ge(least);
  };
  std::vector<at::Tensor> codes, shared;
  for (std::int64_t k = 0; k < K; ++k) {
    at::Tensor code = crosscoder.codes(p_VF, k), other = code;
    if (activation.kind == ActivationKind::JumpRelu) {
      code = p_VF * (p_VF * parameters.decoder_KFD[k].norm(2, -1)).gt(0.3);
      other = p_VF * p_VF.gt(0.3);
    } else if (activation.kind == ActivationKind::BatchTopK) {
      std::vector<at::Tensor> slices;
      for (std::int64_t v = 0; v < V; v += slice)
        slices.push_back(
            largest(p_VF.slice(0, v, v + slice), std::min(slice, V - v) * activation.k));
      code = at::cat(slices);
      other = largest(p_VF, V * activation.k);
    }
    codes.push_back(code);
    shared.push_back(other);
  }
  const at::Tensor a_VKF = at::stack(codes, 1), b_VKF = at::stack(shared, 1);
  const auto decode = [&](const at::Tensor& a) {
    return at::einsum("vkf,kfd->vkd", {a, parameters.decoder_KFD}) + parameters.decoder_bias_KD;
  };
  const auto expected =
      slow_definitions(x_VKD, decode(a_VKF), a_VKF.gt(0), decode(b_VKF), b_VKF.gt(0), 10);
  for (const std::int64_t block_bytes : {1, 12'000, 1 << 24}) {
    const Quality quality =
        measure_quality(crosscoder, rows_in_memory(x_VKD),
                        {.all_definitions = true, .batch_rows = 10, .block_bytes = block_bytes});
    const auto json = quality_json(quality, {0, 1, 2});
    std::map<std::string, double> made;
    for (const auto& [id, value] : json["pooled"].items()) {
      made[id] = value.get<double>();
      EXPECT_FALSE(definition_of(id, true).empty());
    }
    for (const auto& row : json["snapshots"])
      for (const auto& [id, value] : row.items())
        if (id != "step") {
          made[fmt::format("{} {}", row["step"].get<int>(), id)] = value.get<double>();
          EXPECT_FALSE(definition_of(id, false).empty());
        }
    EXPECT_EQ(made.size(), expected.size());
    for (const auto& [id, value] : expected)
      EXPECT_NEAR(made.contains(id) ? made[id] : std::nan(""), value, 1e-10)
          << id << ", " << name_of(activation.kind) << ", blocks of " << block_bytes;
  }
  EXPECT_GE(expected.at("dead_rate_never"), 2.0 / static_cast<double>(F));
}

TEST(Quality, OfEveryDefinitionIsWhatItSaysForEveryActivation) {
  for (const ActivationKind kind :
       {ActivationKind::JumpRelu, ActivationKind::SharedJumpRelu, ActivationKind::TopK,
        ActivationKind::BatchTopK, ActivationKind::Gated, ActivationKind::Relu})
    expect_all_definitions({kind, 3, 8});
}

// A row that is the column means has nothing to explain: it is left out, whatever its error is.
TEST(Quality, RowByRowLeavesOutARowWithoutADeviation) {
  at::Tensor x_VKD = toy::normal({5, 1, 4}, 0, "x").to(at::kDouble);
  x_VKD[4] = x_VKD.slice(0, 0, 4).mean(0);  // which is then the mean of all five, too
  const Crosscoder crosscoder = random_crosscoder(1, 4, 10);
  const at::Tensor rows_VKD = x_VKD.to(at::kFloat);
  const Quality quality = measure_quality(crosscoder, rows_in_memory(rows_VKD),
                                          {.all_definitions = true, .batch_rows = 5});
  const at::Tensor x = rows_VKD.select(1, 0).to(at::kDouble);
  const at::Tensor error = crosscoder.reconstruct(rows_VKD).select(1, 0).to(at::kDouble) - x;
  const at::Tensor share = error.square().sum(1) / (x - x.mean(0)).square().sum(1);
  EXPECT_GT(error[4].square().sum().item<double>(), 1e-3);
  const double expected = 1 - share.slice(0, 0, 4).mean().item<double>();
  for (const auto& [id, value] : quality.others)
    if (std::string_view(id) == "explained_variance_saelens_legacy") {
      EXPECT_NEAR(value, expected, 1e-5);
    }
  for (const auto& [id, value] : quality.snapshots[0].others)
    if (std::string_view(id) == "explained_variance_saelens_legacy") {
      EXPECT_NEAR(value, expected, 1e-5);
    }
  // Nothing but such rows: no number.
  const Quality none = measure_quality(crosscoder, rows_in_memory(at::ones({5, 1, 4})),
                                       {.all_definitions = true, .batch_rows = 5});
  for (const auto& [id, value] : none.others)
    if (std::string_view(id) == "explained_variance_saelens_legacy") {
      EXPECT_TRUE(std::isnan(value));
    }
}

TEST(Quality, KnowsNoOtherDefinitions) {
  EXPECT_THROW(definition_of("explained_variance", true), Error);
  EXPECT_THROW(definition_of("l0_batch", false), Error);
}

// From a file in blocks as from memory at once.
TEST(Quality, OfAStackIsThatOfItsRowsInMemory) {
  const TemporaryFolder folder;
  const std::vector<at::Tensor> matrices{toy::normal({90, 8}, 0, "a") + 3,
                                         toy::normal({90, 8}, 0, "b") * 2};
  toy::write_stack(folder / "s", matrices);
  const trajectories::Stack stack(folder / "s");
  const Crosscoder crosscoder = random_crosscoder(2, 8, 40);
  const Quality memory =
      measure_quality(crosscoder, preprocess_stack(stack, {0, 1}, "center_scale", at::kCPU).x_VKD);
  const StackRows rows(stack, {0, 1}, "center_scale", 5000);
  const Quality whole = measure_quality(crosscoder, rows.rows());
  EXPECT_EQ(whole.explained_variance_pooled, memory.explained_variance_pooled);
  const Quality blocks = measure_quality(crosscoder, rows.rows(), {.block_bytes = 5000});
  EXPECT_NEAR(blocks.explained_variance_pooled, memory.explained_variance_pooled, 1e-7);
  EXPECT_TRUE(at::equal(blocks.rates_KF, memory.rates_KF));
}

}  // namespace
}  // namespace cresco::dictionaries
