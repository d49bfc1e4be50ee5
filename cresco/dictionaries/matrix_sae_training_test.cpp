#include "cresco/dictionaries/matrix_sae_training.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/base/threads.h"
#include "cresco/dictionaries/folder_contents.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/dictionaries/training_folder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cresco::dictionaries {
namespace {

using toy::expect_same_contents;

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Steps this small gain nothing from threads, and wait for them when the machine is busy.
class Fit : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(num_threads()); }
};
using MatrixSaeTraining = Fit;
class PlantedRows : public Fit, public testing::WithParamInterface<std::string> {};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

at::Tensor scaled(const at::Tensor& matrix_VD) {
  return preprocess(matrix_VD, snapshot_statistics(matrix_VD, "center_scale"));
}

// Every epoch's terms, and the fit with its result.
std::vector<EpochTerms> run(MatrixSaeFit& fit) {
  std::vector<EpochTerms> all;
  while (!fit.done())
    if (const auto terms = fit.take_epoch()) all.push_back(*terms);
  fit.finish();
  return all;
}

INSTANTIATE_TEST_SUITE_P(, PlantedRows, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const MatrixSaeClass& kind : matrix_sae_classes())
                             names.emplace_back(kind.name);
                           return names;
                         }()),
                         [](const auto& info) { return info.param; });

// Rows of three of 16 atoms, each with either sign: the atoms are found, and a few codes a row
// reconstruct what as many principal components do not.
TEST_P(PlantedRows, AreTakenApart) {
  const toy::Planted planted(0, 2);
  const at::Tensor x_VD = scaled(planted.matrices[1]);
  // Steering takes its time.
  const std::int64_t epochs = matrix_sae_class(GetParam()).has_penalty() ? 1200 : 600;
  const MatrixSaeConfig config{.sae_class = GetParam(),
                               .d_sae = 64,
                               .k = 3,
                               .target_l0 = 4,
                               .lambda_warmup = 150,
                               .lr = 1e-2,
                               .n_epochs = epochs,
                               .resample_every = 100,
                               .resample_margin = epochs / 2};
  MatrixSaeFit fit(config, 0, x_VD);
  EXPECT_LT(measure(fit.sae(), x_VD).fve, 0.3);  // random features
  run(fit);
  const MatrixSaeQuality quality = measure(fit.sae(), x_VD);
  EXPECT_GT(quality.fve, 0.8);
  EXPECT_LT(quality.l0, 6);
  const at::Tensor energies = at::linalg_svdvals(x_VD).square_();
  EXPECT_LT((energies.narrow(0, 0, 6).sum() / energies.sum()).item<double>(), 0.6);

  const at::Tensor atoms_AD = planted.atoms_AD / planted.atoms_AD.norm(2, 1, true);
  const at::Tensor nearest_A =
      std::get<0>(atoms_AD.mm(fit.sae().parameters().decoder_FD.detach().t()).abs().max(1));
  EXPECT_GT(nearest_A.mean().item<double>(), 0.85);
}

// The bound above says something: rows without structure do not come near it.
TEST_F(Fit, FindsLittleWhereNothingWasPlanted) {
  const at::Tensor x_VD = scaled(toy::normal({256, 64}, 1, "noise"));
  MatrixSaeFit fit({.d_sae = 64, .k = 3, .lr = 1e-2, .n_epochs = 600}, 0, x_VD);
  run(fit);
  EXPECT_LT(measure(fit.sae(), x_VD).fve, 0.65);
}

TEST_F(Fit, KeepsRowsOfTheDecoderAtLengthOne) {
  const at::Tensor x_VD = scaled(toy::normal({40, 6}, 0, "x"));
  for (const MatrixSaeClass& kind : matrix_sae_classes()) {
    MatrixSaeFit fit({.sae_class = kind.name,
                      .d_sae = 12,
                      .k = 2,
                      .lr = 0.1,
                      .n_epochs = 20,
                      .weight_decay = 0.1,
                      .resample_every = 3,
                      .resample_margin = 2},
                     0, x_VD);
    while (!fit.done()) {
      fit.take_epoch();
      const at::Tensor norm_F = fit.sae().parameters().decoder_FD.detach().norm(2, 1);
      ASSERT_LE((norm_F - 1).abs().max().item<double>(), 1e-6) << kind.name << fit.epoch();
    }
  }
}

TEST_F(Fit, SelectingClassesKeepExactlyK) {
  const at::Tensor x_VD = scaled(toy::normal({50, 8}, 0, "x"));
  for (const MatrixSaeClass& kind : matrix_sae_classes()) {
    if (kind.has_penalty()) continue;
    MatrixSaeFit fit({.sae_class = kind.name, .d_sae = 24, .k = 3, .lr = 1e-2, .n_epochs = 30}, 0,
                     x_VD);
    for (const EpochTerms& terms : run(fit)) ASSERT_EQ(terms.l0, 3) << kind.name;
    const MatrixSaeQuality quality = measure(fit.sae(), x_VD);
    EXPECT_EQ(quality.l0, 3);
    EXPECT_EQ(quality.l0_std > 0, kind.activation == ActivationKind::BatchTopK) << kind.name;
  }
}

TEST_F(Fit, LambdaIsSteeredToTheTarget) {
  const MatrixSaeConfig config{.target_l0 = 5, .lambda_rate = 0.03};
  EXPECT_NEAR(steered_log_lambda(-2, 8, config), -2 + 0.03 * 3 / 5, 1e-15);
  EXPECT_NEAR(steered_log_lambda(-2, 3, {.target_l0 = 0.5}), -2 + 0.03 * 2.5, 1e-15);
  EXPECT_EQ(steered_log_lambda(2, 1e9, config), std::log(10));
  EXPECT_EQ(steered_log_lambda(-18, 0, {.target_l0 = 1e3, .lambda_rate = 9}), std::log(1e-8));

  const at::Tensor x_VD = scaled(toy::normal({100, 12}, 0, "x"));
  for (const char* name : {"gated", "jumprelu", "vanilla_l1"}) {
    MatrixSaeFit fit({.sae_class = name,
                      .d_sae = 24,
                      .target_l0 = 4,
                      .lambda_warmup = 100,
                      .lr = 1e-2,
                      .n_epochs = 1500},
                     0, x_VD);
    const auto terms = run(fit);
    EXPECT_EQ(terms[0].lambda, 0);
    EXPECT_NEAR(terms[50].lambda, 0.005, 1e-12);  // no steering yet
    EXPECT_NEAR(terms[100].lambda, 0.01, 1e-12);
    EXPECT_GT(terms[100].l0, 6) << name;
    double mean_l0 = 0;
    for (int e = 1100; e < 1500; ++e) mean_l0 += terms[e].l0 / 400;
    EXPECT_NEAR(mean_l0, 4, 0.2) << name;
  }
}

TEST_F(Fit, WarmsTheLearningRateUp) {
  const at::Tensor x_VD = scaled(toy::normal({20, 4}, 0, "x"));
  MatrixSaeFit fit({.d_sae = 8, .k = 2, .lr = 0.5, .n_epochs = 8, .lr_warmup = 4, .lr_start = 0.2},
                   0, x_VD);
  const auto terms = run(fit);
  for (int e = 0; e < 8; ++e)
    EXPECT_DOUBLE_EQ(terms[e].lr, 0.5 * std::min(1.0, 0.2 + 0.8 * e / 4)) << e;
  EXPECT_DOUBLE_EQ(warmup_factor(0, {.lr_warmup = 10}), 1e-6);
  EXPECT_DOUBLE_EQ(warmup_factor(0, {}), 1);
}

// The first update with weight decay is that without, and - lr wd p on top.
TEST_F(Fit, DecaysWeightsBesideTheGradient) {
  const at::Tensor x_VD = scaled(toy::normal({20, 4}, 0, "x"));
  MatrixSaeConfig config{.sae_class = "jumprelu", .d_sae = 8, .lr = 1e-3, .n_epochs = 1};
  MatrixSaeFit plain(config, 0, x_VD);
  config.weight_decay = 0.5;
  MatrixSaeFit decayed(config, 0, x_VD);
  const at::Tensor at_start = plain.sae().parameters().encoder_DF.detach().clone(),
                   threshold = plain.sae().parameters().log_threshold_F.detach().clone();
  run(plain);
  run(decayed);
  const auto difference = [&](at::Tensor MatrixSaeParameters::*which) {
    return (decayed.sae().parameters().*which - plain.sae().parameters().*which).detach();
  };
  EXPECT_LE(
      (difference(&MatrixSaeParameters::encoder_DF) + 0.5e-3 * at_start).abs().max().item<double>(),
      1e-7);
  EXPECT_LE((difference(&MatrixSaeParameters::log_threshold_F) + 0.5e-3 * threshold)
                .abs()
                .max()
                .item<double>(),
            1e-6);
}

TEST_F(Fit, ClipsTheGradient) {
  const at::Tensor x_VD = scaled(toy::normal({20, 4}, 0, "x"));
  MatrixSaeConfig config{.d_sae = 8, .k = 2, .lr = 1e-2, .n_epochs = 5};
  MatrixSaeFit plain(config, 0, x_VD);
  config.grad_clip = 1e-12;  // what is left is far below Adam's epsilon
  MatrixSaeFit clipped(config, 0, x_VD);
  const at::Tensor at_start = plain.sae().parameters().encoder_DF.detach().clone();
  run(plain);
  EXPECT_GT(run(clipped)[0].grad_norm, 0.1);  // that of before clipping
  EXPECT_GT((plain.sae().parameters().encoder_DF - at_start).abs().max().item<double>(), 1e-2);
  EXPECT_LE((clipped.sae().parameters().encoder_DF - at_start).abs().max().item<double>(), 1e-5);
}

TEST_F(Fit, NoiseIsOnTheInputAlone) {
  const at::Tensor x_VD = scaled(toy::normal({30, 6}, 0, "x"));
  MatrixSaeConfig config{.sae_class = "vanilla_l1", .d_sae = 12, .n_epochs = 2, .noise_std = 0.7};
  MatrixSaeFit fit(config, 5, x_VD);
  for (std::uint64_t epoch = 0; epoch < 2; ++epoch) {
    at::Tensor noise_VD = at::empty_like(x_VD);
    RandomStream(5, "noise", epoch).fill_normal({noise_VD.mutable_data_ptr<float>(), 180}, 0, 0.7f);
    const double expected =
        (fit.sae().reconstruct(x_VD + noise_VD) - x_VD).square().sum(1).mean().item<double>();
    EXPECT_NEAR(fit.take_epoch()->recon, expected, 1e-6 * expected);
  }
}

TEST_F(Fit, StopsEarlyWithTheBestOfTheHeldOutRows) {
  const at::Tensor x_VD =
      scaled(toy::normal({60, 10}, 0, "x"));  // few rows: it learns them by heart
  MatrixSaeFit fit({.d_sae = 100,
                    .k = 4,
                    .lr = 1e-2,
                    .n_epochs = 5000,
                    .patience = 40,
                    .val_every = 5,
                    .val_fraction = 0.25},
                   0, x_VD);
  EXPECT_EQ(fit.held_out_VD().size(0), 15);
  EXPECT_EQ(fit.train_rows_VD().size(0), 45);
  // Together they are all rows.
  const at::Tensor both = at::cat({fit.held_out_VD(), fit.train_rows_VD()});
  EXPECT_TRUE(at::equal(std::get<0>(both.flatten().sort()), std::get<0>(x_VD.flatten().sort())));

  const auto terms = run(fit);
  EXPECT_EQ(fit.stopped(), StopReason::Patience);
  EXPECT_LT(fit.epoch(), 2000);
  EXPECT_EQ(fit.epoch(), fit.best_epoch() + 40);
  double best = 1e9;
  for (std::size_t e = 0; e < terms.size(); ++e) {
    EXPECT_EQ(terms[e].val_mse.has_value(), e % 5 == 0);
    best = std::min(best, terms[e].val_mse.value_or(1e9));
  }
  EXPECT_NEAR(measure(fit.sae(), fit.held_out_VD()).mse, best, 1e-6 * best);
  EXPECT_NEAR(*terms[static_cast<std::size_t>(fit.best_epoch())].val_mse, best, 1e-12);
  EXPECT_LT(best, 0.99 * *terms[0].val_mse);
}

TEST_F(Fit, ANumberThatIsNotFiniteStopsItWithTheLastGoodParameters) {
  const at::Tensor x_VD = scaled(toy::normal({30, 6}, 0, "x"));
  MatrixSaeConfig config{.sae_class = "vanilla_l1", .d_sae = 12, .lr = 1e25, .n_epochs = 50};
  MatrixSaeFit fit(config, 0, x_VD);
  const double at_start = measure(fit.sae(), x_VD).mse;
  const auto terms = run(fit);
  EXPECT_EQ(fit.stopped(), StopReason::NotFinite);
  EXPECT_EQ(terms.size(), 1u);
  EXPECT_NEAR(measure(fit.sae(), x_VD).mse, at_start, 1e-6 * at_start);

  // Likewise when the last update of all was the bad one.
  config.n_epochs = 1;
  MatrixSaeFit last(config, 0, x_VD);
  run(last);
  EXPECT_EQ(last.stopped(), StopReason::NotFinite);
  EXPECT_NEAR(measure(last.sae(), x_VD).mse, at_start, 1e-6 * at_start);

  MatrixSaeFit never(config, 0, 1e30 * x_VD);
  EXPECT_HAS(message_of([&] { run(never); }), "the loss is not finite");
}

TEST_F(Fit, ResamplesWhatNeverFires) {
  const at::Tensor x_VD = scaled(toy::normal({50, 6}, 0, "x"));
  for (const char* name : {"jumprelu", "topk", "tied_batchtopk", "gated"}) {
    SCOPED_TRACE(name);
    MatrixSaeFit fit({.sae_class = name,
                      .d_sae = 12,
                      .k = 3,
                      .lr = 0,
                      .n_epochs = 10,
                      .resample_every = 2,
                      .resample_margin = 1},
                     0, x_VD);
    const MatrixSaeParameters& p = fit.sae().parameters();
    const bool gated = fit.sae().kind().activation == ActivationKind::Gated;
    const at::Tensor& bias_F = gated ? p.gate_bias_F : p.encoder_bias_F;
    bias_F.detach()[5].fill_(-1e3);  // never fires
    if (p.log_threshold_F.defined()) p.log_threshold_F.detach()[5].fill_(3);
    if (gated) p.log_magnitude_F.detach()[5].fill_(2);
    const at::Tensor before_FD = p.decoder_FD.detach().clone();
    fit.take_epoch();
    fit.take_epoch();
    EXPECT_EQ(bias_F[5].item<double>(), -1e3);  // not yet
    const at::Tensor residual_VD = (x_VD - fit.sae().reconstruct(x_VD)).detach();
    fit.take_epoch();
    EXPECT_EQ(bias_F[5].item<double>(), 0);
    if (p.log_threshold_F.defined()) {
      EXPECT_NEAR(p.log_threshold_F[5].item<double>(), std::log(0.001), 1e-6);
    }
    EXPECT_TRUE(!gated || p.log_magnitude_F[5].item<double>() == 0);
    const at::Tensor row_D = p.decoder_FD[5].detach();
    const at::Tensor cosine_V = residual_VD.mv(row_D) / residual_VD.norm(2, 1);
    EXPECT_NEAR(cosine_V.max().item<double>(), 1, 1e-5);
    EXPECT_TRUE(!p.encoder_DF.defined() ||
                at::allclose(p.encoder_DF.detach().select(1, 5), row_D, 1e-5, 1e-6));
    // Those that fired are as they were.
    EXPECT_TRUE(at::allclose(p.decoder_FD.detach()[0], before_FD[0], 0, 1e-6));
    // No more in the last epochs.
    while (fit.epoch() < 9) fit.take_epoch();
    bias_F.detach()[5].fill_(-1e3);
    while (!fit.done()) fit.take_epoch();
    EXPECT_EQ(bias_F[5].item<double>(), -1e3);
  }
}

TEST_F(Fit, DrawsRowsByTheirWeight) {
  const at::Tensor weight_V = at::tensor({0.0, 1.0, 3.0, 0.0, 4.0}, at::kDouble);
  std::vector<double> first(5);
  constexpr int kDraws = 4000;
  for (int draw = 0; draw < kDraws; ++draw) {
    const at::Tensor rows = draw_rows(weight_V, 3, 7, draw);
    std::set<std::int64_t> distinct;
    for (int i = 0; i < 3; ++i) distinct.insert(rows[i].item<std::int64_t>());
    ASSERT_EQ(distinct, (std::set<std::int64_t>{1, 2, 4}));
    ++first[static_cast<std::size_t>(draw_rows(weight_V, 1, 8, draw)[0].item<std::int64_t>())];
  }
  for (int v = 0; v < 5; ++v)
    EXPECT_NEAR(first[v] / kDraws, weight_V[v].item<double>() / 8, 0.03) << v;
  // More than there are: with replacement, in the same shares.
  const at::Tensor many = draw_rows(weight_V, 4000, 9, 0);
  ASSERT_EQ(many.size(0), 4000);
  for (int v = 0; v < 5; ++v)
    EXPECT_NEAR(many.eq(v).to(at::kDouble).mean().item<double>(), weight_V[v].item<double>() / 8,
                0.03)
        << v;
  EXPECT_EQ(draw_rows(at::zeros({3}, at::kDouble), 2, 0, 0).size(0), 0);
}

TEST_F(Fit, AuxKRevivesDeadFeatures) {
  const at::Tensor x_VD = scaled(toy::Planted(0, 2).matrices[0]);
  MatrixSaeConfig config{.d_sae = 128, .k = 3, .lr = 1e-2, .n_epochs = 300};
  MatrixSaeFit with(config, 0, x_VD);
  config.auxk_coefficient = 0;
  MatrixSaeFit without(config, 0, x_VD);
  const auto terms = run(with);
  run(without);
  EXPECT_GT(terms[250].aux, 0);
  EXPECT_LT(measure(with.sae(), x_VD).dead_features, measure(without.sae(), x_VD).dead_features);
}

// ---- with a folder ----

MatrixSaeRun small_run(const std::string& sae_class) {
  return {.training = {.sae_class = sae_class,
                       .d_sae = 20,
                       .k = 2,
                       .dead_refresh = 7,
                       .lambda_warmup = 6,
                       .lr = 2e-2,
                       .n_epochs = 60,
                       .weight_decay = 1e-3,
                       .noise_std = 0.2,
                       .lr_warmup = 5,
                       .grad_clip = 3,
                       .patience = 15,
                       .val_every = 4,
                       .resample_every = 9,
                       .resample_margin = 5},
          .name = "toy",
          .model_name = "toy/model",
          .matrix = "W_U",
          .step = 100,
          .seed = 3,
          .log_every = 3,
          .state_every = 20,
          .resume_command = "cresco train-sae x"};
}

at::Tensor small_rows() { return scaled(toy::normal({45, 6}, 0, "x")); }

MatrixSaeOutcome train(const MatrixSaeRun& run, const Path& folder) {
  return train_matrix_sae(run, small_rows(), folder, no_progress());
}

TEST_F(MatrixSaeTraining, StoppedAtAnyEpochGoesOnBitForBit) {
  const TemporaryFolder folder;
  std::int64_t patience = 0;
  for (const MatrixSaeClass& kind : matrix_sae_classes()) {
    SCOPED_TRACE(kind.name);
    MatrixSaeRun run = small_run(kind.name);
    run.training.patience = patience = 15 - patience;  // every other one holds rows out
    const Path whole = folder / kind.name;
    const auto outcome = train(run, whole);
    EXPECT_EQ(outcome.epochs == 60, outcome.stopped.empty());
    std::vector<int> stops{13, static_cast<int>(outcome.epochs) - 1};
    if (std::string(kind.name) == "topk") stops.insert(stops.end(), {0, 1, 9});
    for (const int stop : stops) {
      SCOPED_TRACE(stop);
      const Path stopped = folder / fmt::format("{}_{}", kind.name, stop);
      MatrixSaeRun first = run;
      first.stop_requested = [left = stop]() mutable { return left-- == 0; };
      EXPECT_THROW(
          try { train(first, stopped); } catch (const Interrupted& e) {
            EXPECT_HAS(std::string(e.what()), "cresco train-sae x");
            throw;
          },
          Interrupted);
      EXPECT_FALSE(std::filesystem::exists(stopped / "COMPLETE"));
      EXPECT_LE(StateFolders(stopped).steps().size(), 2u);
      train(run, stopped);
      expect_same_contents(whole, stopped);
    }
  }
}

TEST_F(MatrixSaeTraining, RepeatsBitForBitOnTwoThreads) {
  at::set_num_threads(2);
  const TemporaryFolder folder;
  const at::Tensor x_VD = scaled(toy::normal({600, 48}, 0, "x"));
  for (const char* name : {"topk", "tied_matryoshka", "gated"}) {
    MatrixSaeRun run = small_run(name);
    run.training.d_sae = 300;
    run.training.n_epochs = 12;
    for (const char* which : {"a", "b"})
      train_matrix_sae(run, x_VD, folder / (std::string(which) + name), no_progress());
    expect_same_contents(folder / (std::string("a") + name), folder / (std::string("b") + name));
  }
}

TEST_F(MatrixSaeTraining, StoppedEveryFewEpochsGoesOnBitForBit) {
  const TemporaryFolder folder;
  const auto whole = train(small_run("topk"), folder / "whole");
  MatrixSaeRun run = small_run("topk");
  int stops = 0;
  for (;; ++stops) {
    run.stop_requested = [left = 2]() mutable { return left-- == 0; };
    try {
      train(run, folder / "stopped");
      break;
    } catch (const Interrupted&) {
    }
  }
  EXPECT_GE(stops, whole.epochs / 2 - 1);
  expect_same_contents(folder / "whole", folder / "stopped");
}

TEST_F(MatrixSaeTraining, GoesOnFromTheStateBeforeADamagedOne) {
  const TemporaryFolder folder;
  train(small_run("jumprelu"), folder / "whole");
  MatrixSaeRun run = small_run("jumprelu");
  run.stop_requested = [left = 23]() mutable { return left-- == 0; };
  EXPECT_THROW(train(run, folder / "stopped"), Interrupted);
  ASSERT_EQ(StateFolders(folder / "stopped").steps(), (std::vector<std::int64_t>{20, 23}));
  std::filesystem::resize_file(folder / "stopped/state/step23/state.safetensors", 1000);
  train(small_run("jumprelu"), folder / "stopped");
  expect_same_contents(folder / "whole", folder / "stopped");
}

TEST_F(MatrixSaeTraining, WritesWhatItSays) {
  const TemporaryFolder folder;
  MatrixSaeRun run = small_run("gated");
  run.training.n_epochs = 30;
  run.training.patience = 0;
  const auto outcome = train(run, folder / "run");
  for (const Path& file : outcome.files) EXPECT_TRUE(std::filesystem::exists(file)) << file;
  EXPECT_EQ(read_file(folder / "run/COMPLETE"), "30\n");
  EXPECT_FALSE(std::filesystem::exists(folder / "run/state"));
  EXPECT_TRUE(std::filesystem::exists(folder / "run/manifest.json"));
  const auto lines = artifacts::read_metrics(folder / "run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 10u);
  for (const char* key : {"step", "loss", "recon", "aux", "l0", "lr", "grad_norm", "lambda"})
    EXPECT_TRUE(lines[0].contains(key)) << key;
  EXPECT_EQ(lines[9]["step"], 27);
  EXPECT_NEAR(lines[9]["loss"].get<double>(),
              lines[9]["recon"].get<double>() +
                  lines[9]["lambda"].get<double>() * lines[9]["aux"].get<double>(),
              1e-5);
}

TEST_F(MatrixSaeTraining, TheDictionaryIsReadBackAndEvaluatedLikeAnyOther) {
  const TemporaryFolder folder;
  const at::Tensor x_VD = small_rows();
  for (const MatrixSaeClass& kind : matrix_sae_classes()) {
    SCOPED_TRACE(kind.name);
    MatrixSaeRun run = small_run(kind.name);
    const auto outcome = train(run, folder / kind.name);
    const Dictionary dictionary = read_dictionary(folder / kind.name);
    EXPECT_EQ(dictionary.activation.kind, kind.activation);
    EXPECT_EQ(dictionary.steps, (std::vector<std::int64_t>{100}));
    EXPECT_EQ(dictionary.training.input_preprocess, "center_scale");
    EXPECT_EQ(dictionary.training.batch_size, 45);
    EXPECT_EQ(dictionary.training.n_epochs, 60);
    const Json config = read_json_file(folder / kind.name / "toy.config.json");
    EXPECT_EQ(config["training"]["class"], kind.name);
    EXPECT_EQ(config["training"]["noise_std"], 0.2);
    EXPECT_FALSE(config["training"].contains("l1_coefficient"));  // none was used

    // Blocks of any size: codes of batchtopk are chosen among all rows.
    for (const std::int64_t block_bytes : {std::int64_t{1}, std::int64_t{1} << 26}) {
      const Quality quality =
          measure_quality(dictionary.crosscoder(), x_VD.unsqueeze(1), block_bytes);
      EXPECT_NEAR(6 * quality.reconstruction_mse, outcome.quality["mse"].get<double>(), 1e-5);
      EXPECT_NEAR(quality.l0, outcome.quality["l0"].get<double>(), 1e-12);
      EXPECT_NEAR(quality.explained_variance_pooled, outcome.quality["fve"].get<double>(), 1e-5);
    }
    EXPECT_EQ(outcome.quality, dictionary.quality);
    EXPECT_TRUE(outcome.quality.contains("val_fve"));
  }
}

TEST_F(MatrixSaeTraining, RefusesOtherSettingsAndCompleteFolders) {
  const TemporaryFolder folder;
  MatrixSaeRun run = small_run("topk");
  const auto outcome = train(run, folder / "run");
  EXPECT_HAS(message_of([&] { train(run, folder / "run"); }), "is complete already");
  run.skip_complete = true;
  const std::string before = read_file(folder / "run/manifest.json");
  const auto skipped = train(run, folder / "run");
  EXPECT_TRUE(skipped.was_complete);
  EXPECT_EQ(skipped.quality, outcome.quality);
  EXPECT_EQ(skipped.epochs, outcome.epochs);
  EXPECT_EQ(skipped.stopped, outcome.stopped);
  EXPECT_EQ(read_file(folder / "run/manifest.json"), before);

  run.training.lr = 1e-3;
  EXPECT_HAS(message_of([&] { train(run, folder / "run"); }), "training.lr was 0.02");
  run = small_run("topk");
  EXPECT_HAS(
      message_of([&] { train_matrix_sae(run, 2 * small_rows(), folder / "run", no_progress()); }),
      "rows_sha256");
  run.resume = "must";
  EXPECT_HAS(message_of([&] { train(run, folder / "other"); }), "no state to resume from");
  run.resume = "sometimes";
  EXPECT_THROW(train(run, folder / "other"), UsageError);
  run = small_run("topk");
  run.training.lr = 1e-3;
  run.overwrite = true;
  EXPECT_NE(train(run, folder / "run").quality, outcome.quality);
  run.name = "../x";
  EXPECT_THROW(train(run, folder / "run"), UsageError);
}

TEST_F(MatrixSaeTraining, ARunThatDivergedSaysSo) {
  const TemporaryFolder folder;
  MatrixSaeRun run = small_run("vanilla_l1");
  run.training.patience = 0;
  run.training.lr = 1e25;
  run.training.lr_warmup = 0;
  const auto outcome = train(run, folder / "run");
  EXPECT_EQ(outcome.stopped, "not_finite");
  EXPECT_EQ(outcome.epochs, 1);
  EXPECT_TRUE(std::isfinite(outcome.quality["mse"].get<double>()));
}

TEST_F(Fit, CrossValidationHoldsEveryRowOutOnce) {
  const toy::Planted planted(0, 2);
  const at::Tensor x_VD = scaled(planted.matrices[0]);
  const MatrixSaeConfig config{
      .sae_class = "batchtopk", .d_sae = 64, .k = 3, .lr = 1e-2, .n_epochs = 250};
  const auto folds = cross_validate(config, 1, x_VD, 3, no_progress());
  ASSERT_EQ(folds.size(), 3u);
  for (const FoldQuality& fold : folds) {
    EXPECT_EQ(fold.epochs, 250);
    EXPECT_GT(fold.held_out.fve, 0.6);
    EXPECT_LT(fold.held_out.fve, fold.train.fve);
    EXPECT_EQ(fold.held_out.l0, 3);
  }
  EXPECT_NE(folds[0].held_out.fve, folds[1].held_out.fve);
  const auto again = cross_validate(config, 1, x_VD, 3, no_progress());
  EXPECT_EQ(folds[2].held_out.fve, again[2].held_out.fve);
  EXPECT_THROW(cross_validate(config, 1, x_VD, 1, no_progress()), UsageError);
  EXPECT_THROW(cross_validate(config, 1, x_VD, 300, no_progress()), UsageError);
  EXPECT_THROW(cross_validate(config, 1, x_VD, 3, no_progress(), [] { return true; }), Interrupted);
}

}  // namespace
}  // namespace cresco::dictionaries
