#include "cresco/verbs/train_matrix_sae.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/base/threads.h"
#include "cresco/dictionaries/folder_contents.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/verbs/eval.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace cresco::verbs {
namespace {

class TrainMatrixSae : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    dictionaries::toy::write_stack(folder / "stack.safetensors",
                                   dictionaries::toy::Planted(0, 3, 80, 16).matrices);
    config.stack = (folder / "stack.safetensors").string();
    config.training = {
        .sae_class = "batchtopk", .d_sae = 32, .k = 3, .lr = 1e-2, .n_epochs = 120, .patience = 60};
  }
  void TearDown() override { at::set_num_threads(num_threads()); }

  Outcome run(const char* out, bool overwrite = false, bool dry_run = false) {
    VerbContext context{.options = {}, .command = {"cresco"}, .progress = no_progress()};
    context.options.out = (folder / out).string();
    context.options.overwrite = overwrite;
    context.options.dry_run = dry_run;
    context.given = given;
    return run_train_matrix_sae(config, context);
  }

  TemporaryFolder folder;
  TrainMatrixSaeConfig config;
  std::set<std::string> given;
};

TEST_F(TrainMatrixSae, RefusesWhatItWouldNotUseOrCannotHold) {
  const auto refused = [&](const char* sae_class, const char* setting) {
    config.training.sae_class = sae_class;
    given = {setting};
    EXPECT_THROW(run("x", false, true), UsageError) << sae_class << " " << setting;
  };
  refused("topk", "target_l0");
  refused("vanilla_l1", "k");
  refused("batchtopk", "auxk_coefficient");
  refused("batchtopk", "matryoshka_levels");
  refused("gated", "bandwidth");
  config.training.sae_class = "matryoshka";
  given = {"k", "matryoshka_levels"};
  EXPECT_GT(run("x", false, true).summary["memory_bytes"], 125e6);

  given = {"expansion_factor"};  // the size is a file's
  config.training.expansion_factor = 4;
  run("x", false, true);
  given = {"expansion_factor", "d_sae"};
  EXPECT_THROW(run("x", false, true), UsageError);
  config.training.expansion_factor = 0;
  config.training.d_sae = std::int64_t{1} << 31;
  given = {};
  EXPECT_THROW(run("x"), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  config.training.d_sae = 32;
  config.resume = "must";
  EXPECT_THROW(run("x", /*overwrite=*/true), UsageError);
}

TEST_F(TrainMatrixSae, WritesADictionaryForEachStepAndLeavesCompleteOnes) {
  config.steps = "100";
  run("saes");
  EXPECT_FALSE(std::filesystem::exists(folder / "saes/step0"));
  const std::string before = read_file(folder / "saes/step100/manifest.json");

  config.steps = "all";
  config.folds = 3;
  const Outcome outcome = run("saes");
  ASSERT_EQ(outcome.summary["dictionaries"].size(), 3u);
  EXPECT_EQ(outcome.summary["dictionaries"][0]["was_complete"], false);
  EXPECT_EQ(outcome.summary["dictionaries"][1]["was_complete"], true);
  EXPECT_EQ(read_file(folder / "saes/step100/manifest.json"), before);
  const artifacts::Table saes = artifacts::read_csv(folder / "saes/saes.csv"),
                         folds = artifacts::read_csv(folder / "saes/cross_validation.csv");
  ASSERT_EQ(saes.num_rows(), 3u);
  ASSERT_EQ(folds.num_rows(), 9u);
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t step = 100 * static_cast<std::int64_t>(i);
    EXPECT_EQ(saes.number(i, "step"), static_cast<double>(step));
    const auto dictionary =
        dictionaries::read_dictionary(folder / "saes" / fmt::format("step{}", step));
    EXPECT_EQ(dictionary.steps, std::vector{step});
    EXPECT_EQ(dictionary.quality["fve"].get<double>(), saes.number(i, "fve"));
    EXPECT_EQ(saes.text(i, "class"), "batchtopk");
    EXPECT_GT(saes.number(i, "fve"), 0.5);
    EXPECT_EQ(folds.number(3 * i + 2, "step"), static_cast<double>(step));
  }

  // Nothing is left to do, and the same tables come of it.
  const auto contents = dictionaries::toy::contents(folder / "saes");
  const Outcome again = run("saes");
  EXPECT_EQ(dictionaries::toy::contents(folder / "saes"), contents);
  EXPECT_EQ(again.summary["dictionaries"][0]["folds"], outcome.summary["dictionaries"][0]["folds"]);
}

TEST_F(TrainMatrixSae, EvalAgreesWithItsOwnNumbers) {
  const Outcome outcome = run("saes");
  VerbContext context{.options = {}, .command = {"cresco"}, .progress = no_progress()};
  const Outcome evaluated = run_eval(
      {.dict = (folder / "saes/step200").string(), .stack = config.stack, .pca = false}, context);
  const Json& metrics = outcome.summary["dictionaries"][2]["metrics"];
  EXPECT_NEAR(evaluated.summary["pooled"]["explained_variance_pooled"].get<double>(),
              metrics["fve"].get<double>(), 1e-5);
  EXPECT_NEAR(evaluated.summary["pooled"]["l0"].get<double>(), metrics["l0"].get<double>(), 1e-9);
}

TEST_F(TrainMatrixSae, RefusesWhatIsInTheWay) {
  EXPECT_EQ(run("plan", false, /*dry_run=*/true).summary["epochs"], 120);
  EXPECT_FALSE(std::filesystem::exists(folder / "plan"));
  run("saes");
  config.training.k = 4;
  EXPECT_THROW(run("saes"), Error);
  const Outcome anew = run("saes", /*overwrite=*/true);
  EXPECT_EQ(anew.summary["dictionaries"][0]["metrics"]["l0"], 4);
  config.folds = 81;
  EXPECT_THROW(run("saes"), UsageError);
  config.folds = 0;
  config.steps = "7";
  EXPECT_THROW(run("saes"), Error);
  write_json_file(folder / "saes/manifest.json", {{"verb", "eval"}});
  config.steps = "all";
  EXPECT_THROW(run("saes"), Error);
}

}  // namespace
}  // namespace cresco::verbs
