#include "cresco/verbs/match.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/verbs/train.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::verbs {
namespace {

constexpr std::int64_t kFeatures = 32;

// Two dictionaries of one stack, of two seeds, trained once for all tests.
class MatchVerb : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    folder = std::make_unique<TemporaryFolder>();
    const dictionaries::toy::Planted planted(0, 2, 128, 24);
    dictionaries::toy::write_stack(*folder / "stack.safetensors", planted.matrices);
    for (const int seed : {0, 1}) {
      auto context = context_of(fmt::format("seed{}", seed));
      context.options.seed = seed;
      TrainConfig config{.stack = (*folder / "stack.safetensors").string()};
      config.training = {.lr = 5e-3,
                         .l1_coefficient = 0.3,
                         .n_epochs = 150,
                         .batch_size = 64,
                         .d_sae = kFeatures,
                         .input_preprocess = "center"};
      run_train(config, context);
    }
  }
  static void TearDownTestSuite() { folder.reset(); }

  static VerbContext context_of(const std::string& out) {
    VerbContext context{.options = {}, .command = {"cresco"}, .progress = no_progress()};
    if (!out.empty()) context.options.out = (*folder / out).string();
    return context;
  }
  static std::string dict(const char* name) { return (*folder / name).string(); }
  static artifacts::Table table(const std::string& path) {
    return artifacts::read_csv(*folder / path);
  }

  static std::unique_ptr<TemporaryFolder> folder;
};
std::unique_ptr<TemporaryFolder> MatchVerb::folder;

TEST_F(MatchVerb, FindsWhatTwoSeedsShareAboveTheNull) {
  auto context = context_of("match");
  const Json summary =
      run_match({.dicts = {dict("seed0"), dict("seed1")}, .match = {.threshold = {0.8}}}, context)
          .summary;
  EXPECT_EQ(summary["num_a"], kFeatures);
  EXPECT_EQ(summary["num_b"], kFeatures);
  EXPECT_EQ(summary["null"]["shuffles"], 100);
  EXPECT_EQ(summary["null"]["features"], kFeatures);
  // Atoms that both find.
  EXPECT_GT(summary["mmcs"].get<double>(), summary["null"]["p95"].get<double>());
  EXPECT_GT(summary["mmcs_symmetric"].get<double>(), summary["null"]["mean"].get<double>() + 0.1);
  EXPECT_GT(summary["share_above_null_p99"].get<double>(), 0.3);
  EXPECT_EQ(summary["shares"].size(), 4u);
  EXPECT_GT(summary["mutual"], 10);
  EXPECT_LE(summary["assigned_mean"].get<double>(), summary["mmcs"].get<double>() + 1e-9);

  const auto matches = table("match/matches.csv");
  ASSERT_EQ(matches.num_rows(), static_cast<std::size_t>(kFeatures));
  double sum = 0, mutual = 0;
  for (std::size_t i = 0; i < matches.num_rows(); ++i) {
    EXPECT_EQ(matches.number(i, "feature"), i);
    EXPECT_GE(matches.number(i, "cosine"), matches.number(i, "second_cosine"));
    EXPECT_GE(matches.number(i, "p_value"), 1.0 / 101);
    sum += matches.number(i, "cosine");
    mutual += matches.number(i, "mutual");
  }
  EXPECT_NEAR(sum / kFeatures, summary["mmcs"].get<double>(), 1e-6);
  EXPECT_EQ(mutual, summary["mutual"]);
  const auto metrics = table("match/match_summary.csv");
  for (std::size_t i = 0; i < metrics.num_rows(); ++i)
    if (metrics.text(i, "metric") == "mmcs") {
      EXPECT_EQ(metrics.number(i, "value"), summary["mmcs"].get<double>());
    }
  const auto null = table("match/null.csv");
  EXPECT_EQ(null.number(0, "quantile"), 0);
  EXPECT_EQ(null.number(null.num_rows() - 1, "quantile"), 1);
  double features = 0, chance = 0;
  const auto histogram = table("match/match_histogram.csv");
  for (std::size_t i = 0; i < histogram.num_rows(); ++i) {
    features += histogram.number(i, "features");
    chance += histogram.number(i, "null");
  }
  EXPECT_NEAR(features, 1, 1e-9);
  EXPECT_NEAR(chance, 1, 1e-9);
  const Json manifest = read_json_file(*folder / "match/manifest.json");
  EXPECT_EQ(manifest["inputs"].size(), 2u);
  EXPECT_EQ(manifest["settings"]["shuffles"], 100);
  EXPECT_EQ(manifest["facts"]["steps_compared"], Json({{0, 0}, {100, 100}}));
}

TEST_F(MatchVerb, ComparesTheFirstWithEachOther) {
  auto context = context_of("pairs");
  const Json summary =
      run_match({.dicts = {dict("seed0"), dict("seed1"), dict("seed0")}, .match = {.shuffles = 2}},
                context)
          .summary;
  ASSERT_EQ(summary["pairs"].size(), 2u);
  const double one = summary["pairs"][0]["mmcs"], other = summary["pairs"][1]["mmcs"];
  EXPECT_NEAR(other, 1, 1e-6);
  EXPECT_NEAR(summary["mean"]["mmcs"].get<double>(), (one + other) / 2, 1e-12);
  const auto pairs = table("pairs/pairs.csv");
  ASSERT_EQ(pairs.num_rows(), 3u);
  EXPECT_EQ(pairs.text(2, "pair"), "mean");
  EXPECT_EQ(pairs.number(0, "mmcs"), one);
  for (std::size_t i = 0; i < 2; ++i) {
    const Path pair = *folder / "pairs" / pairs.text(i, "pair");
    EXPECT_EQ(artifacts::read_csv(pair / "matches.csv").num_rows(),
              static_cast<std::size_t>(kFeatures));
    EXPECT_TRUE(std::filesystem::exists(pair / "manifest.json"));
  }
}

TEST_F(MatchVerb, WritesNothingWithoutAPlace) {
  auto context = context_of("");
  const Outcome outcome =
      run_match({.dicts = {dict("seed0"), dict("seed1")}, .match = {.shuffles = 0}}, context);
  EXPECT_TRUE(outcome.summary["null"].is_null());
  EXPECT_FALSE(outcome.summary.contains("tables"));
  EXPECT_NE(outcome.text.find("the best there is"), std::string::npos) << outcome.text;

  auto dry = context_of("dry");
  dry.options.dry_run = true;
  const Outcome plan = run_match({.dicts = {dict("seed0"), dict("seed1")}}, dry);
  EXPECT_FALSE(std::filesystem::exists(*folder / "dry"));
  // 2 features features (2 heads) (24 wide), once and for each of 100 shuffles.
  EXPECT_EQ(plan.summary["flops"], 2 * kFeatures * kFeatures * 48 * 101);
}

TEST_F(MatchVerb, NeedsTwoDictionaries) {
  auto context = context_of("");
  EXPECT_THROW(run_match({.dicts = {dict("seed0")}}, context), UsageError);
  EXPECT_THROW(run_match({.dicts = {dict("seed0"), dict("nowhere")}}, context), Error);
  auto out = context_of("seed0");
  out.options.overwrite = true;
  EXPECT_THROW(run_match({.dicts = {dict("seed0"), dict("seed1")}}, out), Error);
  EXPECT_TRUE(std::filesystem::exists(*folder / "seed0/COMPLETE"));
}

}  // namespace
}  // namespace cresco::verbs
