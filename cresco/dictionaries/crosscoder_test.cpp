#include "cresco/dictionaries/crosscoder.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include "cresco/base/random.h"
#include "cresco/dictionaries/crosscoder_reference.h"
#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/dictionaries/selection.h"
#include "cresco/dictionaries/whole_step.h"
#include "cresco/dist/thread_ranks.h"

#include <cmath>
#include <numeric>

namespace cresco::dictionaries {
namespace {

using reference::Fixture;

// By entries alone, and by whole products alone.
constexpr double kWays[] = {1, 0};

// How far numbers may be from those known to twelve digits, relative to the largest of their
// tensor.
struct Precision {
  const char* name;
  at::ScalarType dtype;
  double tolerance;
};
const Precision kPrecisions[] = {{"double", at::kDouble, 1e-11}, {"float", at::kFloat, 2e-6}};

// Half of the last digit printed, for numbers known to ten of them.
constexpr double kTenDigits = 0.6e-10;

void expect_close(double value, double expected, double tolerance, double printed = 0) {
  EXPECT_NEAR(value, expected, tolerance * std::max(1.0, std::abs(expected)) + printed);
}

double total(const at::Tensor& t) { return t.to(at::kDouble).sum().item<double>(); }
double length(const at::Tensor& t) { return t.to(at::kDouble).norm().item<double>(); }
double at_index(const at::Tensor& t, std::int64_t i) { return t.flatten()[i].item<double>(); }

// The numbers of the fixture, whoever computes them.
struct FixtureNumbers {
  std::vector<double> p;  // of rows 0 and 1
  std::vector<double> norm, mean_score, r00, r01;
  double l_rec, l_s, loss, l0;
  CrosscoderParameters gradients;
};

void expect_fixture(const FixtureNumbers& n, double tolerance) {
  const auto all_close = [&](const std::vector<double>& values,
                             const std::vector<double>& expected) {
    ASSERT_EQ(values.size(), expected.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      expect_close(values[i], expected[i], tolerance, kTenDigits);
  };
  all_close(n.p, {-1.0255286108, 1.5610574418, -.7715967681, .3463247105, -.7570204875, .8541889250,
                  -.9852722427, 1.6070559823, -1.0783502035, 1.2667201342});
  all_close(n.norm, {.6285923393, .6266497873, .6235722983, .6195903388, .6150070065, 1.1915104796,
                     1.1900210592, 1.1913364147, 1.1953429207, 1.2016967728});
  all_close(n.mean_score, {.3723391104, .2130958052, .4298608362, .0912634431, .2294122402});
  all_close(n.r00, {.2242288830, .7343044358, .5692638768});
  all_close(n.r01, {-1.3249749046, -.0122697167, 1.3117161921});
  expect_close(n.l_rec, 8.178320213820, tolerance);
  expect_close(n.l_s, 44.314528012103, tolerance);
  expect_close(n.loss, 9.064610774062, tolerance);
  EXPECT_EQ(n.l0, 1.625);

  const CrosscoderParameters& g = n.gradients;
  expect_close(total(g.encoder_KDF), -23.055143025908, tolerance);
  expect_close(length(g.encoder_KDF), 10.286298312785, tolerance);
  expect_close(total(g.encoder_bias_KF), 17.813625619161, tolerance);
  expect_close(length(g.encoder_bias_KF), 6.951584266235, tolerance);
  expect_close(total(g.decoder_KFD), 1.650167264784, tolerance);
  expect_close(length(g.decoder_KFD), 5.980247916666, tolerance);
  expect_close(total(g.decoder_bias_KD), .132412692039, tolerance);
  expect_close(length(g.decoder_bias_KD), 1.684909295211, tolerance);
  const double encoder[] = {1.9201333980, .4925648278, 1.8446105581};
  const double decoder[] = {-.6591205725, -.7419574813, -.0912781472};
  const double threshold[] = {-.0653830120, -.0242070171, -.2508289558, -.1062859577, -.5584460899};
  for (int i = 0; i < 3; ++i)
    expect_close(at_index(g.encoder_KDF, i), encoder[i], tolerance, kTenDigits);
  for (int i = 0; i < 3; ++i)
    expect_close(at_index(g.decoder_KFD, i), decoder[i], tolerance, kTenDigits);
  for (int i = 0; i < 5; ++i)
    expect_close(at_index(g.log_threshold_F, i), threshold[i], tolerance, kTenDigits);
}

std::vector<double> numbers(const at::Tensor& t) {
  const at::Tensor d = t.to(at::kDouble).contiguous();
  return {d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel()};
}

// The loss of a batch, and the gradients of all parameters.
LossTerms differentiate(const CrosscoderConfig& config, const CrosscoderParameters& parameters,
                        const at::Tensor& x_BKD, double l1, CrosscoderParameters& gradients,
                        std::int64_t max_rows = 0, double dense_share = kDenseShare) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(x_BKD.size(0)));
  std::iota(rows.begin(), rows.end(), 0);
  const auto step =
      make_sparse_step(config, {}, parameters, std::max(max_rows, x_BKD.size(0)), dense_share);
  step->load(x_BKD, rows);
  return step->gradients({.l1_coefficient = l1}, gradients);
}

CrosscoderConfig fixture_config() {
  return {
      .l1_coefficient = 0.02, .frequency_scale = 0.01, .tanh_stretch_coefficient = 1.0, .d_sae = 5};
}

TEST(CrosscoderReference, GivesTheKnownNumbers) {
  Fixture f;
  const auto o = reference::forward(f.sizes, f.weights, f.setting, f.x);
  const auto g = reference::gradients(f.sizes, f.weights, f.setting, f.x);
  expect_fixture({{o.p.begin(), o.p.begin() + 10},
                  o.norm,
                  o.mean_score,
                  {o.reconstruction.begin(), o.reconstruction.begin() + 3},
                  {o.reconstruction.begin() + 3, o.reconstruction.begin() + 6},
                  o.l_rec,
                  o.l_s,
                  o.loss,
                  o.num_open / 8.0,
                  reference::parameters_of(f.sizes, g, at::kDouble)},
                 1e-11);
}

TEST(CrosscoderStep, GivesTheKnownNumbers) {
  Fixture f;
  for (const auto& [name, dtype, tolerance] : kPrecisions)
    for (const double dense_share : kWays) {
      SCOPED_TRACE(fmt::format("{} {}", name, dense_share));
      const auto parameters = reference::parameters_of(f.sizes, f.weights, dtype);
      const at::Tensor x_BKD = reference::tensor_of(f.x, {4, 2, 3}, dtype);
      CrosscoderParameters gradients;
      const LossTerms terms =
          differentiate(fixture_config(), parameters, x_BKD, 0.02, gradients, 6, dense_share);

      const Crosscoder crosscoder(parameters);
      const at::Tensor p_BF = crosscoder.pre_activation(x_BKD),
                       r_BKD = crosscoder.reconstruct(x_BKD);
      const auto o = reference::forward(f.sizes, f.weights, f.setting, f.x);
      expect_fixture({numbers(p_BF.narrow(0, 0, 2)), numbers(crosscoder.norm_KF()), o.mean_score,
                      numbers(r_BKD[0][0]), numbers(r_BKD[0][1]), terms.l_rec, terms.l_s,
                      terms.loss, terms.l0, gradients},
                     tolerance);
    }
}

TEST(Crosscoder, OpensTheKnownGates) {
  Fixture f;
  const Crosscoder crosscoder(reference::parameters_of(f.sizes, f.weights, at::kFloat));
  const at::Tensor p_BF =
      crosscoder.pre_activation(reference::tensor_of(f.x, {4, 2, 3}, at::kFloat));
  const std::vector<std::vector<std::vector<std::int64_t>>> open{{{1}, {0, 2}, {0, 2}, {}},
                                                                 {{1}, {0, 2, 4}, {0, 2, 4}, {3}}};
  for (std::int64_t k = 0; k < 2; ++k)
    for (std::int64_t b = 0; b < 4; ++b) {
      std::vector<std::int64_t> fired;
      for (std::int64_t j = 0; j < 5; ++j)
        if (crosscoder.open(p_BF, k)[b][j].item<bool>()) fired.push_back(j);
      EXPECT_EQ(fired, open[k][b]) << "head " << k << ", row " << b;
      EXPECT_TRUE(at::equal(crosscoder.codes(p_BF, k).gt(0), crosscoder.open(p_BF, k)));
    }
}

struct KnownTraining {
  const char* optimizer;
  double losses[5];  // before steps 0, 1, 2, 19 and after 20
  double norms[5];
};
const KnownTraining kTrainings[] = {
    {"adam",
     {9.064610774062, 8.225779714146, 7.465174983106, 2.816776333977, 2.814028914645},
     {2.8821892308, .4746280432, 2.7763520453, .3056389408, 1.5353037726}},
    {"sparse_adam",
     {9.064610774062, 8.225779905240, 7.465175273379, 2.816776333790, 2.814028913153},
     {2.9023775473, .4216307176, 2.8093599477, .3056388813, 1.5352645885}}};

double rate(int tensor) { return tensor == 4 ? 1e-3 : 1e-2; }

void expect_training(const KnownTraining& known, const std::vector<double>& losses,
                     const CrosscoderParameters& end, double tolerance) {
  const int at[] = {0, 1, 2, 19, 20};
  for (int i = 0; i < 5; ++i) expect_close(losses[at[i]], known.losses[i], tolerance);
  const auto tensors = end.named();
  for (int i = 0; i < 5; ++i)
    expect_close(length(tensors[i].second), known.norms[i], tolerance, kTenDigits);
}

TEST(CrosscoderReference, TrainsToTheKnownNumbers) {
  for (const KnownTraining& known : kTrainings) {
    SCOPED_TRACE(known.optimizer);
    Fixture f;
    const bool sparse = std::string(known.optimizer) == "sparse_adam";
    const auto losses = reference::train(f.sizes, f.weights, f.setting, f.x, 20, sparse, rate);
    expect_training(known, losses, reference::parameters_of(f.sizes, f.weights, at::kDouble),
                    1e-11);
  }
}

TEST(CrosscoderStep, TrainsToTheKnownNumbers) {
  for (const auto& [name, dtype, tolerance] : kPrecisions)
    for (const KnownTraining& known : kTrainings)
      for (const double dense_share : kWays) {
        SCOPED_TRACE(fmt::format("{} {} {}", name, known.optimizer, dense_share));
        Fixture f;
        const auto parameters = reference::parameters_of(f.sizes, f.weights, dtype);
        const at::Tensor x_BKD = reference::tensor_of(f.x, {4, 2, 3}, dtype);
        CrosscoderConfig config = fixture_config();
        config.optimizer = known.optimizer;
        const auto step = make_sparse_step(config, {}, parameters, 4, dense_share);
        const std::vector<std::int64_t> rows{0, 1, 2, 3};
        std::vector<double> losses;
        for (int i = 0; i < 20; ++i) {
          step->load(x_BKD, rows);
          losses.push_back(
              step->update(
                      {.step = i, .l1_coefficient = 0.02, .lr = rate(0), .threshold_lr = rate(4)})
                  .loss);
        }
        step->load(x_BKD, rows);
        CrosscoderParameters gradients;
        losses.push_back(step->gradients({.step = 20, .l1_coefficient = 0.02}, gradients).loss);
        expect_training(known, losses, step->parameters(), tolerance);
      }
}

// A larger batch than one chunk of rows, and not a multiple of it.
struct RandomBatch {
  reference::Sizes sizes{150, 3, 5, 11};
  reference::Weights weights;
  std::vector<double> x;

  RandomBatch() {
    RandomStream random(1, "batch");
    const auto fill = [&](std::vector<double>& out, int count, double scale) {
      for (int i = 0; i < count; ++i) out.push_back(scale * random.normal());
    };
    const auto [B, K, d, F] = sizes;
    fill(weights.W_E, K * d * F, 0.3);
    fill(weights.b_E, K * F, 0.1);
    fill(weights.W_D, K * F * d, 0.3);
    fill(weights.b_D, K * d, 0.1);
    fill(x, B * K * d, 1);
    // Thresholds on both sides of half the window, so that its lower end matters for some.
    for (int f = 0; f < F; ++f) weights.log_threshold.push_back(std::log(0.05 + 0.5 * f * f / 10));
  }
};

CrosscoderConfig random_config() {
  return {.frequency_scale = 0.05, .tanh_stretch_coefficient = 1.7, .d_sae = 11};
}

TEST(CrosscoderStep, AgreesWithTheReferenceOnARandomBatch) {
  RandomBatch batch;
  const reference::Setting setting{.lambda = 0.3, .alpha = 0.05, .stretch = 1.7};
  const auto o = reference::forward(batch.sizes, batch.weights, setting, batch.x);
  const auto g = reference::parameters_of(
      batch.sizes, reference::gradients(batch.sizes, batch.weights, setting, batch.x), at::kDouble);
  for (const auto& [name, dtype, tolerance] : kPrecisions)
    for (const double dense_share : kWays) {
      SCOPED_TRACE(fmt::format("{} {}", name, dense_share));
      const auto parameters = reference::parameters_of(batch.sizes, batch.weights, dtype);
      CrosscoderParameters gradients;
      const LossTerms terms = differentiate(random_config(), parameters,
                                            reference::tensor_of(batch.x, {150, 3, 5}, dtype), 0.3,
                                            gradients, 200, dense_share);
      expect_close(terms.loss, o.loss, tolerance);
      EXPECT_EQ(std::llround(terms.l0 * 450), o.num_open);
      const auto expected = g.named(), computed = gradients.named();
      for (std::size_t i = 0; i < 5; ++i)
        EXPECT_LE(length(computed[i].second.to(at::kDouble) - expected[i].second) /
                      length(expected[i].second),
                  tolerance)
            << expected[i].first;
    }
}

// Wide enough for two slabs a head, the second of an odd number of strips, and for several blocks
// of rows; the two ways of computing agree, and so do three shares of the work with one.
TEST(CrosscoderStep, AgreesWithItselfWhereABatchIsCutIntoPieces) {
  const std::int64_t B = 1100, K = 2, D = 256 + 90, F = 70;
  at::Tensor encoder_KDF = at::empty({K, D, F}), decoder_KFD = at::empty({K, F, D}),
             x_BKD = at::empty({B, K, D});
  const auto fill = [](at::Tensor& t, const char* what, float deviation) {
    RandomStream(3, what).fill_normal(
        {t.mutable_data_ptr<float>(), static_cast<std::size_t>(t.numel())}, 0, deviation);
  };
  fill(encoder_KDF, "W_E", 0.05f);
  fill(decoder_KFD, "W_D", 0.05f);
  fill(x_BKD, "x", 1);
  at::Tensor log_threshold_F = at::linspace(-3, 1.2, F);
  const CrosscoderParameters parameters{encoder_KDF, at::zeros({K, F}), decoder_KFD,
                                        at::zeros({K, D}), log_threshold_F};
  const CrosscoderConfig config{
      .frequency_scale = 0.05, .tanh_stretch_coefficient = 1.7, .d_sae = F};
  const auto doubled = [](const CrosscoderParameters& p) {
    return CrosscoderParameters{p.encoder_KDF.to(at::kDouble), p.encoder_bias_KF.to(at::kDouble),
                                p.decoder_KFD.to(at::kDouble), p.decoder_bias_KD.to(at::kDouble),
                                p.log_threshold_F.to(at::kDouble)};
  };
  CrosscoderParameters expected;
  const LossTerms exact =
      differentiate(config, doubled(parameters), x_BKD.to(at::kDouble), 0.3, expected, 0, 0);
  for (const double dense_share : kWays)
    for (const int threads : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} {}", dense_share, threads));
      const int before = at::get_num_threads();
      at::set_num_threads(threads);
      CrosscoderParameters gradients;
      const LossTerms terms =
          differentiate(config, parameters, x_BKD, 0.3, gradients, 0, dense_share);
      at::set_num_threads(before);
      expect_close(terms.loss, exact.loss, 1e-5);
      const auto a = expected.named(), b = gradients.named();
      for (std::size_t i = 0; i < 5; ++i)
        EXPECT_LE(length(b[i].second.to(at::kDouble) - a[i].second) / length(a[i].second), 2e-5)
            << a[i].first;
    }
}

// The forward pass by LibTorch's own operations, with the gates held fixed, for autograd.
struct ByAutograd {
  std::vector<at::Tensor> leaves;  // W_E, b_E, W_D, b_D, log threshold
  at::Tensor p_BF, gate_BKF, r_BKD, mean_F;

  ByAutograd(const CrosscoderParameters& parameters, const at::Tensor& x_BKD) {
    for (const auto& [name, p] : parameters.named())
      leaves.push_back(p.detach().clone().requires_grad_(true));
    p_BF = at::einsum("bkd,kdf->bf", {x_BKD, leaves[0]}) + leaves[1].sum(0);
    const at::Tensor norm_KF = leaves[2].norm(2, -1);
    gate_BKF = (p_BF.unsqueeze(1) * norm_KF).detach().gt(leaves[4].detach().exp());
    const at::Tensor code_BKF = p_BF.unsqueeze(1) * gate_BKF;
    r_BKD = at::einsum("bkf,kfd->bkd", {code_BKF, leaves[2]}) + leaves[3];
    mean_F = (code_BKF * norm_KF * 1.7).tanh().mean(at::IntArrayRef{0, 1});
  }
  at::Tensor loss(const at::Tensor& x_BKD) const {
    return (r_BKD - x_BKD).square().sum(-1).mean() + 0.3 * (mean_F * (1 + mean_F / 0.05)).sum();
  }
  // All but the threshold's, which is a surrogate.
  void expect_gradients(const at::Tensor& loss, const CrosscoderParameters& written) const {
    const auto autograd =
        torch::autograd::grad({loss}, {leaves[0], leaves[1], leaves[2], leaves[3]});
    const auto gradients = written.named();
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_LE(length(gradients[i].second - autograd[i]) / length(autograd[i]), 1e-12)
          << gradients[i].first;
  }
};

// All gradients but the threshold's, which is a surrogate, are those of the loss with the gates
// held fixed.
TEST(CrosscoderStep, AgreesWithAutograd) {
  RandomBatch batch;
  const auto parameters = reference::parameters_of(batch.sizes, batch.weights, at::kDouble);
  const at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, at::kDouble);
  CrosscoderParameters gradients;
  const LossTerms terms = differentiate(random_config(), parameters, x_BKD, 0.3, gradients, 0, 1);

  const ByAutograd by(parameters, x_BKD);
  const at::Tensor loss = by.loss(x_BKD);
  expect_close(terms.loss, loss.item<double>(), 1e-12);
  by.expect_gradients(loss, gradients);
}

// The loss that revives dead features, with those that did not fire at step 1 dead at step 5.
TEST(CrosscoderStep, RevivesDeadFeaturesAsAutogradDoes) {
  RandomBatch batch;
  auto parameters = reference::parameters_of(batch.sizes, batch.weights, at::kDouble);
  parameters.encoder_bias_KF.narrow(1, 6, 5).fill_(-2);  // these mostly do not fire
  const at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, at::kDouble);
  CrosscoderConfig config = random_config();
  config.auxk_coefficient = 0.7;
  config.auxk_k = 2;
  config.dead_window_steps = 4;
  std::vector<std::int64_t> few{3}, all(150);
  std::iota(all.begin(), all.end(), 0);
  const auto step = make_sparse_step(config, {}, parameters, 150);
  step->load(x_BKD, few);
  step->update({.step = 1});  // rates of 0: only marks what fires
  step->load(x_BKD, all);
  CrosscoderParameters written;
  const LossTerms terms = step->gradients({.step = 5, .l1_coefficient = 0.3}, written);

  const ByAutograd by(parameters, x_BKD);
  const at::Tensor dead_F = by.gate_BKF[3].any(0).logical_not();
  const std::int64_t num_dead = dead_F.sum().item<std::int64_t>();
  ASSERT_GE(num_dead, 4);
  ASSERT_LE(num_dead, 10);
  const at::Tensor chosen_BQ = std::get<1>((by.p_BF.detach().abs() * dead_F).topk(2, 1));
  const at::Tensor revived_BF =
      at::zeros_like(by.p_BF).scatter(1, chosen_BQ, by.p_BF.gather(1, chosen_BQ).relu());
  const at::Tensor aux_BKD = at::einsum("bf,kfd->bkd", {revived_BF, by.leaves[2]}) + by.leaves[3];
  const at::Tensor l_aux = (aux_BKD - (x_BKD - by.r_BKD).detach()).square().sum(-1).mean();
  const at::Tensor loss = by.loss(x_BKD) + 0.7 * l_aux;
  EXPECT_EQ(terms.num_silent, num_dead);
  expect_close(terms.l_aux, l_aux.item<double>(), 1e-12);
  expect_close(terms.loss, loss.item<double>(), 1e-12);
  by.expect_gradients(loss, written);
}

// One code for all heads: the same entries, chosen otherwise.
TEST(CrosscoderStep, OfTopKAndBatchTopKAgreesWithAutograd) {
  RandomBatch batch;
  for (const auto kind : {ActivationKind::TopK, ActivationKind::BatchTopK})
    for (const auto& [name, dtype, tolerance] : kPrecisions) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(kind), name));
      CrosscoderParameters parameters = reference::parameters_of(batch.sizes, batch.weights, dtype);
      parameters.log_threshold_F = at::Tensor();
      const at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, dtype);
      const Activation activation{.kind = kind, .k = 3, .slice_rows = 150};
      std::vector<std::int64_t> rows(150);
      std::iota(rows.begin(), rows.end(), 0);
      const auto step = make_sparse_step(random_config(), activation, parameters, 150);
      step->load(x_BKD, rows);
      CrosscoderParameters written;
      const LossTerms terms = step->gradients({}, written);
      std::vector<at::Tensor> leaves;
      for (const auto& [parameter, p] : parameters.named())
        leaves.push_back(p.detach().clone().requires_grad_(true));
      const at::Tensor positive_BF =
          (at::einsum("bkd,kdf->bf", {x_BKD, leaves[0]}) + leaves[1].sum(0)).relu();
      const at::Tensor code_BF = kind == ActivationKind::TopK ? keep_largest_in_rows(positive_BF, 3)
                                                              : keep_largest(positive_BF, 3 * 150);
      const at::Tensor r_BKD = at::einsum("bf,kfd->bkd", {code_BF, leaves[2]}) + leaves[3];
      const at::Tensor loss = (r_BKD - x_BKD).square().sum(-1).mean();
      const auto expected = torch::autograd::grad({loss}, leaves);
      expect_close(terms.loss, loss.item<double>(), tolerance);
      EXPECT_DOUBLE_EQ(terms.l0,
                       static_cast<double>(code_BF.gt(0).sum().item<std::int64_t>()) / 150);
      const auto found = written.named();
      ASSERT_EQ(found.size(), 4u);
      for (std::size_t i = 0; i < 4; ++i)
        EXPECT_LE(length(found[i].second - expected[i]) / length(expected[i]), 2 * tolerance)
            << found[i].first;
    }
}

// Some updates of the heads that a rank has, with everything that ranks tell each other of.
CrosscoderParameters trained(const CrosscoderConfig& config, const Activation& activation,
                             const CrosscoderParameters& all, const at::Tensor& x_BKD,
                             double dense_share, HeadShare share, std::vector<double>& losses,
                             bool whole = false) {
  const std::int64_t K = all.num_heads(), first = share.first(K), count = share.count(K);
  const at::Tensor own_BKD = x_BKD.narrow(1, first, count).contiguous();
  const auto step = whole ? make_whole_step(config, activation, all.heads(first, count),
                                            x_BKD.size(0), kEncoderTileNumbers, share)
                          : make_sparse_step(config, activation, all.heads(first, count),
                                             x_BKD.size(0), dense_share, share);
  for (std::int64_t i = 0; i < 6; ++i) {
    std::vector<std::int64_t> rows(i == 3 ? 70 : 150);  // a ragged batch, too
    std::iota(rows.begin(), rows.end(), 0);
    step->load(own_BKD, rows, {.deviation = 0.1, .seed = 3, .step = i});
    const LossTerms terms =
        step->update({.step = i, .l1_coefficient = 0.3, .lr = 1e-2, .threshold_lr = 1e-2});
    losses.push_back(terms.loss + 1e-3 * terms.l0 + 1e-3 * step->batch_deviation());
  }
  return step->parameters();
}

TEST(CrosscoderStep, IsTheSameWhenRanksShareTheHeads) {
  RandomBatch batch;
  CrosscoderParameters parameters =
      reference::parameters_of(batch.sizes, batch.weights, at::kDouble);
  parameters.encoder_bias_KF.narrow(1, 6, 3).fill_(-2);  // these mostly do not fire
  const at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, at::kDouble);
  struct Case {
    ActivationKind kind;
    double auxk, dense_share;
    const char* optimizer = "adam";
    bool whole = false;  // the step of GPUs
  };
  for (const Case& c :
       {Case{ActivationKind::JumpRelu, 0, 1}, Case{ActivationKind::JumpRelu, 0, 0},
        Case{ActivationKind::JumpRelu, 0.7, 1}, Case{ActivationKind::JumpRelu, 0, 1, "sparse_adam"},
        Case{ActivationKind::TopK, 0, 1}, Case{ActivationKind::BatchTopK, 0, 1},
        Case{ActivationKind::JumpRelu, 0.7, 1, "adam", true},
        Case{ActivationKind::TopK, 0, 1, "adam", true}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", name_of(c.kind), c.auxk, c.dense_share, c.optimizer));
    CrosscoderConfig config = random_config();
    config.optimizer = c.optimizer;
    config.auxk_coefficient = c.auxk;
    config.auxk_k = 2;
    config.dead_window_steps = 1;
    CrosscoderParameters start = parameters;
    if (c.kind != ActivationKind::JumpRelu) start.log_threshold_F = at::Tensor();
    const Activation activation{.kind = c.kind, .k = 3, .slice_rows = 150};
    std::vector<double> losses;
    const auto alone =
        trained(config, activation, start, x_BKD, c.dense_share, {}, losses, c.whole).named();
    dist::ThreadRanks::run(3, [&](dist::Ranks& ranks) {
      std::vector<double> own;
      const auto shared =
          trained(config, activation, start, x_BKD, c.dense_share, {&ranks}, own, c.whole).named();
      for (std::size_t i = 0; i < losses.size(); ++i) expect_close(own[i], losses[i], 1e-11);
      // Adam divides small gradients by their own size, and with them their rounding.
      for (std::size_t i = 0; i < shared.size(); ++i) {
        const auto& [name, expected] = alone[i];
        const at::Tensor& part = shared[i].second;
        const at::Tensor its = part.sizes() == expected.sizes()
                                   ? expected  // thresholds: the same on every rank
                                   : expected.narrow(0, ranks.rank(), 1);
        EXPECT_LE(length(part - its), 1e-8 * length(its)) << name << " of rank " << ranks.rank();
      }
    });
  }
}

// With bfloat16 inputs of its one large product a step sees the encoder and the batch rounded, and
// nothing else: where both are bfloat16 numbers already it is that in float.
TEST(CrosscoderStep, InBf16ReadsRoundedNumbersAndSumsInFloat) {
  RandomBatch batch;
  CrosscoderParameters parameters =
      reference::parameters_of(batch.sizes, batch.weights, at::kFloat);
  at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, at::kFloat);
  const at::Tensor as_it_is_KDF = parameters.encoder_KDF;
  const auto rounded = [](const at::Tensor& t) { return t.to(at::kBFloat16).to(at::kFloat); };
  parameters.encoder_KDF = rounded(parameters.encoder_KDF);
  x_BKD = rounded(x_BKD);
  CrosscoderConfig config = random_config();
  CrosscoderParameters expected, written, of_unrounded;
  const LossTerms exact = differentiate(config, parameters, x_BKD, 0.3, expected);
  config.amp_dtype = "bf16";
  const LossTerms terms = differentiate(config, parameters, x_BKD, 0.3, written);
  expect_close(terms.loss, exact.loss, 1e-5);
  const auto a = expected.named(), b = written.named();
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_LE(length(b[i].second - a[i].second) / length(a[i].second), 2e-5) << a[i].first;
  parameters.encoder_KDF = as_it_is_KDF;
  EXPECT_EQ(differentiate(config, parameters, x_BKD, 0.3, of_unrounded).loss, terms.loss);
}

// A decoder row of zeros has no direction and no norm: its feature never fires and nothing is
// divided by 0.
TEST(CrosscoderStep, HasFiniteGradientsForZeroDecoderRowsAndSilentFeatures) {
  RandomBatch batch;
  auto parameters = reference::parameters_of(batch.sizes, batch.weights, at::kFloat);
  parameters.decoder_KFD.select(1, 3).zero_();
  parameters.decoder_KFD[1][4].zero_();
  parameters.encoder_bias_KF.select(1, 5).fill_(-1000);
  CrosscoderParameters gradients;
  const LossTerms terms =
      differentiate(random_config(), parameters,
                    reference::tensor_of(batch.x, {150, 3, 5}, at::kFloat), 0.3, gradients);
  EXPECT_TRUE(std::isfinite(terms.loss));
  for (const auto& [name, g] : gradients.named())
    EXPECT_TRUE(g.isfinite().all().item<bool>()) << name;
  EXPECT_EQ(length(gradients.decoder_KFD.select(1, 3)), 0);
  EXPECT_EQ(length(gradients.encoder_KDF.select(2, 5)), 0);
  EXPECT_EQ(gradients.log_threshold_F[5].item<float>(), 0);
}

// A crosscoder of another library, small enough to write down.
TEST(Crosscoder, AddsTheHeadsAndDecodesEach) {
  const Crosscoder crosscoder(
      {at::tensor({1., .5, 0., .2, 0., 1., .5, .3, .5, 0., 1., .4, .5, 1., 0., .6}, at::kDouble)
           .reshape({2, 2, 4}),
       at::tensor({.1, .2, .3, .1, .3, .2, .1, .3}, at::kDouble).reshape({2, 4}),
       at::tensor({1., .5, .5, 1., 0., .5, .2, .3, .5, 0., 1., .5, .5, 1., .4, .6}, at::kDouble)
           .reshape({2, 4, 2}),
       at::tensor({.1, .2, .2, .1}, at::kDouble).reshape({2, 2}), at::zeros({4}, at::kDouble)});
  const at::Tensor x_BKD = at::tensor({1., 2., 2., 1.}, at::kDouble).reshape({1, 2, 2});
  const auto expect = [](const at::Tensor& value, std::vector<double> expected) {
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(at_index(value, static_cast<std::int64_t>(i)), expected[i], 1e-12);
  };
  expect(crosscoder.pre_activation(x_BKD), {2.9, 3.9, 3.4, 2.6});
  expect(crosscoder.decode(at::ones({1, 4}, at::kDouble), 0), {1.8, 2.5});
  expect(crosscoder.decode(at::ones({1, 4}, at::kDouble), 1), {2.6, 2.2});
}

TEST(Crosscoder, StartsWithEqualHeadsAndTransposedDecoders) {
  const CrosscoderConfig config{.init_threshold = 0.15, .decoder_transpose_init = 2, .d_sae = 7};
  const at::Tensor encoder_DF = at::rand({4, 7}), decoder_FD = at::rand({7, 4});
  const auto p = initial_parameters(config, 3, encoder_DF, decoder_FD);
  EXPECT_EQ(p.count(), 2 * 3 * 4 * 7 + 3 * 7 + 3 * 4 + 7);
  for (std::int64_t k = 0; k < 3; ++k) {
    EXPECT_TRUE(at::equal(p.decoder_KFD[k], decoder_FD));
    EXPECT_TRUE(at::equal(p.encoder_KDF[k], decoder_FD.t() * 2));
  }
  EXPECT_EQ(length(p.encoder_bias_KF) + length(p.decoder_bias_KD), 0);
  EXPECT_FLOAT_EQ(p.log_threshold_F[6].item<float>(), std::log(0.15f));
  const CrosscoderConfig own{.decoder_transpose_init = 0, .d_sae = 7};
  EXPECT_TRUE(
      at::equal(initial_parameters(own, 3, encoder_DF, decoder_FD).encoder_KDF[1], encoder_DF));
}

TEST(Crosscoder, CodesFollowTheOrderOfTheRows) {
  RandomBatch batch;
  const Crosscoder crosscoder(reference::parameters_of(batch.sizes, batch.weights, at::kDouble));
  const at::Tensor x_BKD = reference::tensor_of(batch.x, {150, 3, 5}, at::kDouble);
  const at::Tensor codes = crosscoder.codes(crosscoder.pre_activation(x_BKD), 1);
  const at::Tensor flipped = crosscoder.codes(crosscoder.pre_activation(x_BKD.flip(0)), 1);
  EXPECT_LE((codes - flipped.flip(0)).abs().max().item<double>(), 1e-12);
}

}  // namespace
}  // namespace cresco::dictionaries
