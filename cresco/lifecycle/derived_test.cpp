#include "cresco/lifecycle/derived.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/formats/npy.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/torch_file.h"
#include "cresco/lifecycle/cusum.h"
#include "cresco/lifecycle/decoder_geometry.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <cmath>

namespace cresco::lifecycle {
namespace {

using dictionaries::toy::normal;

constexpr std::int64_t K = 10, F = 6, D = 4;

DerivedRun run_of(std::int64_t seed) {
  DerivedRun run{.name = "seed" + std::to_string(seed),
                 .model = "EleutherAI/pythia-160m",
                 .matrix = "W_U",
                 .seed = seed,
                 .input_preprocess = "center_scale"};
  for (std::int64_t k = 0; k < K; ++k) {
    run.steps.push_back(100 * k);
    run.statistics.push_back({normal({D}, 0, "mean" + std::to_string(k)), 1.0 + k});
  }
  const at::Tensor decoder_KFD = normal({K, F, D}, static_cast<std::uint64_t>(seed), "W_D");
  run.rates_KF = normal({K, F}, static_cast<std::uint64_t>(seed), "rates").abs().to(at::kDouble);
  run.rates_KF.select(1, 2).fill_(0);  // never fires
  run.norms_KF = decoder_norms(decoder_KFD);
  run.rotation_JF = adjacent_rotation(decoder_KFD);
  run.distance_to_terminal_KF = distance_to_terminal(decoder_KFD);
  run.lives =
      rate_lifecycles(run.rates_KF, run.norms_KF, run.rotation_JF, run.distance_to_terminal_KF);
  return run;
}

at::Tensor npy(const Path& path) { return tensor::to_tensor(formats::open_npy(path)); }

TEST(Derived, HoldsTheArraysOfARun) {
  const TemporaryFolder folder;
  const DerivedRun run = run_of(3);
  const CusumNull null = cusum_null(run.rates_KF, 20, 0, no_progress());
  const auto paths = write_derived(folder.path(), {"set", false}, run, null);
  for (const std::string& path : paths) EXPECT_TRUE(std::filesystem::exists(folder / path)) << path;
  EXPECT_EQ(paths.size(), 10u);
  const Path own = folder / "set__seed3";

  const at::Tensor normalised = npy(own / "rates_norm.npy");
  EXPECT_EQ(normalised.scalar_type(), at::kFloat);
  EXPECT_EQ(normalised.select(1, 2).abs().sum().item<double>(), 0);
  EXPECT_TRUE(at::allclose(normalised.select(1, 0).amax(), at::scalar_tensor(1.f)));
  EXPECT_EQ(npy(own / "rotation.npy").sizes(), at::IntArrayRef({K - 1, F}));
  const at::Tensor weight = npy(own / "rotation_weight.npy");
  EXPECT_NEAR(weight[4][1].item<double>(),
              std::sqrt(run.norms_KF[4][1].item<double>() * run.norms_KF[5][1].item<double>()),
              1e-6);
  EXPECT_NEAR(npy(own / "direction_to_terminal.npy")[K - 1].abs().max().item<double>(), 0, 1e-6);

  const formats::NpzFile lives(own / "lifecycle.npz");
  const auto array = [](const formats::NpzFile& file, const char* name) {
    return tensor::to_tensor(file.tensor(name));
  };
  EXPECT_EQ(array(lives, "first_active").scalar_type(), at::kInt);
  EXPECT_EQ(array(lives, "peak_step")[2].item<std::int64_t>(), K);
  EXPECT_EQ(array(lives, "peak_step")[0].item<std::int64_t>(), run.lives[0].peak);
  EXPECT_EQ(array(lives, "lifetime").scalar_type(), at::kFloat);
  EXPECT_TRUE(std::isnan(array(lives, "drift_score")[2].item<double>()));
  EXPECT_TRUE(
      at::equal(array(lives, "never_active_mask"), at::tensor({0, 0, 1, 0, 0, 0}).to(at::kBool)));
  EXPECT_EQ(lives.arrays().size(), 6u);
  const formats::NpzFile cusum(own / "cusum.npz");
  EXPECT_TRUE(at::allclose(array(cusum, "cusum_norms"), cusum_max(run.norms_KF).to(at::kFloat)));
  EXPECT_EQ(array(cusum, "cusum_rotation").sizes(), at::IntArrayRef({F}));

  const Json stored = formats::plain_json(formats::TorchFile(own / "cusum_null.pt").root());
  EXPECT_EQ(stored["stat_kind"], "signed_cusum_max_feature");
  EXPECT_EQ(stored["observed"], null.observed);
  EXPECT_EQ(stored["n_permutations"], 20);
  EXPECT_EQ(stored.size(), 12u);
}

TEST(Derived, HoldsAggregatesAndRates) {
  const TemporaryFolder folder;
  const DerivedRun run = run_of(0);
  const auto paths = write_derived(folder.path(), {set_name(run)}, run, std::nullopt);
  EXPECT_EQ(paths.size(), 9u);
  const formats::TorchFile aggregates(folder / "aggregates/aggregates_pythia-160m_d6_seed0.pt");
  const auto tensor_at = [&](const char* path) {
    return tensor::to_tensor(aggregates.tensor(path));
  };
  EXPECT_TRUE(at::equal(tensor_at("rates"), run.rates_KF.to(at::kFloat)));
  EXPECT_TRUE(at::equal(tensor_at("decoder_norms"), run.norms_KF.to(at::kFloat)));
  EXPECT_EQ(tensor_at("preprocess_stats.mean").sizes(), at::IntArrayRef({K, 1, D}));
  EXPECT_EQ(tensor_at("preprocess_stats.scale").sizes(), at::IntArrayRef({K, 1, 1}));
  EXPECT_EQ(tensor_at("preprocess_stats.scale")[4].item<double>(), 5);
  EXPECT_EQ(tensor_at("peak_steps")[2].item<std::int64_t>(), -1);
  EXPECT_EQ(tensor_at("peak_steps")[1].item<std::int64_t>(), 100 * run.lives[1].peak);
  EXPECT_EQ(formats::plain_json(aggregates.root())["steps"], Json(run.steps));

  const Path rates = folder / "rates/wu-d6";
  const formats::TorchFile file(rates / "wu_rates_dsae6_seed0.pt");
  EXPECT_TRUE(at::equal(tensor::to_tensor(file.tensor("rates_per_seed.seed0")),
                        run.rates_KF.to(at::kFloat)));
  EXPECT_EQ(npy(rates / "decoder_norms_dsae6_seed0.npy").sizes(), at::IntArrayRef({K, F}));
}

TEST(Derived, IsNamedAsTheReleaseNamesIt) {
  DerivedRun run = run_of(2);
  EXPECT_EQ(set_name(run), "wu-d6");
  run.matrix = "W_E";
  EXPECT_EQ(set_name(run), "we-d6");
  const TemporaryFolder folder;
  write_derived(folder.path(), {"we-d6", true}, run, std::nullopt);
  for (const char* file : {"we_rates_dsae6_seed2.pt", "we_cc_dsae6_seed2_norms.npy"})
    EXPECT_TRUE(std::filesystem::exists(folder / "rates/we-d6-multiseed" / file)) << file;
  run.matrix = "W_U";
  run.model = "EleutherAI/pythia-1b";
  EXPECT_EQ(set_name(run), "wu-1b-d6");
  run.model = "allenai/OLMo-2-1124-7B";
  EXPECT_EQ(set_name(run), "wu-OLMo-2-1124-7B-d6");
}

TEST(Derived, HoldsTheArraysOfSeveralSeeds) {
  const TemporaryFolder folder;
  const std::vector<DerivedRun> runs{run_of(0), run_of(4)};
  const DerivedSet set{set_name(runs[0]), true};
  write_derived_of_seeds(folder.path(), set, runs);
  write_derived(folder.path(), set, runs[1], std::nullopt);
  const Path rates = folder / "rates/wu-d6-multiseed";
  const at::Tensor all = npy(rates / "firing_rates_all_seeds.npy");
  EXPECT_EQ(all.sizes(), at::IntArrayRef({2, K, F}));
  EXPECT_TRUE(at::equal(all[1], runs[1].rates_KF.to(at::kFloat)));
  EXPECT_TRUE(
      at::equal(npy(rates / "decoder_norms_all_seeds.npy")[0], runs[0].norms_KF.to(at::kFloat)));
  const formats::TorchFile file(rates / "rates_all_seeds.pt");
  EXPECT_EQ(file.tensor("rates_per_seed.seed4").shape, (std::vector<std::int64_t>{K, F}));

  EXPECT_TRUE(std::filesystem::exists(rates / "decoder_norms_dsae6_seed4.npy"));

  DerivedRun other = run_of(5);
  other.steps[3] = 301;
  EXPECT_THROW(check_seeds({runs[0], other}), Error);
  EXPECT_THROW(check_seeds({runs[0], runs[0]}), Error);
}

}  // namespace
}  // namespace cresco::lifecycle
