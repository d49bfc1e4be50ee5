// train, eval, lifecycle and spectra, one after the other, as scripts see them.
#include "cresco/artifacts/table.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/toy_stack.h"
#include "cresco/formats/npy.h"
#include "cresco/text/tokenizer.h"
#include "cresco/verbs/eval.h"
#include "cresco/verbs/lifecycle.h"
#include "cresco/verbs/plan.h"
#include "cresco/verbs/spectra.h"
#include "cresco/verbs/train.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

namespace cresco::verbs {
namespace {

using dictionaries::toy::normal;
using dictionaries::toy::write_stack;

constexpr std::int64_t kRows = 60, kWidth = 8, kFeatures = 24;

class DictionaryVerbs : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    const at::Tensor base = normal({kRows, kWidth}, 0, "base");
    for (int k = 0; k < 4; ++k)
      matrices.push_back(base + 0.3 * k * normal({kRows, kWidth}, 0, std::to_string(k)));
    write_stack(folder / "stack.safetensors", {matrices[0], matrices[1], matrices[3]},
                {0, 10, 1000});
    write_stack(folder / "heldout.safetensors", {matrices[1], matrices[2]}, {10, 100});
  }

  VerbContext context(const std::string& out = "") {
    VerbContext context{.options = {}, .command = {"cresco"}, .progress = no_progress()};
    if (!out.empty()) context.options.out = (folder / out).string();
    return context;
  }

  TrainConfig train_config() {
    TrainConfig config{.stack = (folder / "stack.safetensors").string()};
    config.training = {.lr = 1e-2, .n_epochs = 30, .batch_size = 16, .d_sae = kFeatures};
    return config;
  }

  Outcome train() {
    auto c = context("dictionary");
    return run_train(train_config(), c);
  }

  artifacts::Table table(const char* path) { return artifacts::read_csv(folder / path); }

  TemporaryFolder folder;
  std::vector<at::Tensor> matrices;
};

std::set<std::string> keys(const Json& object) {
  std::set<std::string> all;
  for (const auto& [key, value] : object.items()) all.insert(key);
  return all;
}

TEST_F(DictionaryVerbs, TrainNamesWhatItWroteAndHowGoodItIs) {
  const Outcome outcome = train();
  EXPECT_EQ(outcome.summary["name"], "W_U_d24_seed0");
  ASSERT_EQ(outcome.summary["files"].size(), 3u);
  for (const Json& file : outcome.summary["files"])
    EXPECT_TRUE(std::filesystem::exists(file.get<std::string>())) << file;
  EXPECT_EQ(keys(outcome.summary["metrics"]["pooled"]),
            (std::set<std::string>{"explained_variance_pooled", "l0", "reconstruction_mse",
                                   "dead_rate_1e-6"}));
  EXPECT_EQ(outcome.summary["metrics"]["snapshots"].size(), 3u);
  const Json manifest = read_json_file(folder / "dictionary/manifest.json");
  EXPECT_EQ(manifest["verb"], "train");
  EXPECT_EQ(manifest["settings"]["d_sae"], kFeatures);
  EXPECT_EQ(manifest["inputs"].size(), 1u);
}

TEST_F(DictionaryVerbs, DryRunsWriteNothing) {
  auto c = context("dictionary");
  c.options.dry_run = true;
  EXPECT_EQ(run_train(train_config(), c).summary["steps"], 30 * 4);
  EXPECT_FALSE(std::filesystem::exists(folder / "dictionary"));
  train();
  const std::string stack = (folder / "stack.safetensors").string();
  const std::string dict = (folder / "dictionary").string();
  auto out = context("out");
  out.options.dry_run = true;
  run_eval({.dict = dict, .stack = stack}, out);
  run_lifecycle({.dict = dict, .stack = stack}, out);
  run_spectra({.inputs = {stack}, .weights = true}, out);
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// What the command line names and would change nothing, or contradicts something else it names.
TEST_F(DictionaryVerbs, TrainRefusesWhatItWouldNotUse) {
  const auto refused = [&](std::set<std::string> given,
                           const std::function<void(TrainConfig&)>& change) {
    auto c = context("out");
    c.options.dry_run = true;
    c.given = std::move(given);
    TrainConfig config = train_config();
    change(config);
    EXPECT_THROW(run_train(config, c), UsageError);
    return message_of([&] { run_train(config, c); });
  };
  EXPECT_HAS(refused({"k"}, [](TrainConfig& c) { c.training.k = 9; }),
             "k is a setting of topk, batchtopk: kind crosscoder has none");
  refused({"decoder_transpose_init"}, [](TrainConfig& c) { c.kind = "topk", c.training.k = 3; });
  refused({"gated_l1_coefficient"}, [](TrainConfig&) {});
  refused({"bandwidth"}, [](TrainConfig&) {});
  refused({}, [](TrainConfig& c) { c.sweep = {"k=2,5"}; });
  refused({}, [](TrainConfig& c) { c.smoke = true, c.sweep = {"n_epochs=1,2"}; });
  refused({"d_sae", "expansion_factor"}, [](TrainConfig& c) { c.training.expansion_factor = 2; });
  refused({"d_sae"}, [](TrainConfig& c) { c.sweep = {"expansion_factor=2,4"}; });
  EXPECT_HAS(refused({}, [](TrainConfig& c) { c.sweep = {"lr=fast,1"}; }), "--sweep lr");
  // Of --fuse: one training, kinds and precisions without one product, no two of one seed.
  for (const char* sweep : {"", "seed=0,1", "batch_size=8,16", "noise_std=0,1"})
    EXPECT_HAS(refused({},
                       [&](TrainConfig& c) {
                         c.fuse = true;
                         if (*sweep) c.sweep = {sweep};
                       }),
               "--fuse");
  refused({}, [](TrainConfig& c) { c.fuse = true, c.kind = "gated", c.sweep = {"lr=1e-3,1e-2"}; });
  refused({}, [](TrainConfig& c) {
    c.fuse = true, c.training.amp_dtype = "bf16", c.sweep = {"lr=1e-3,1e-2"};
  });
  refused({}, [](TrainConfig& c) { c.fuse = true, c.kind = "sae", c.steps = "all"; });

  // A recipe may hold all of it, and what is given wins over its size.
  auto c = context();
  c.options.dry_run = true;
  c.given = {"expansion_factor"};
  TrainConfig config = train_config();
  config.training.k = 9;
  config.training.expansion_factor = 2;
  EXPECT_EQ(run_train(config, c).summary["name"], "W_U_d16_seed0");
  config.sweep = {"tanh_stretch=1,2"};
  config.fuse = true;
  EXPECT_EQ(run_train(config, c).summary["trainings"], 2);
}

TEST_F(DictionaryVerbs, SweepsAreReplacedOrGoOnAndSayNumbers) {
  TrainConfig config = train_config();
  config.training.n_epochs = 3;
  config.sweep = {"tanh_stretch=1,.5"};
  auto c = context("sweep");
  const Outcome outcome = run_train(config, c);
  ASSERT_EQ(outcome.summary["members"].size(), 2u);
  const Json& second = outcome.summary["members"][1];
  EXPECT_EQ(second["tanh_stretch_coefficient"], 0.5);
  EXPECT_TRUE(second["l0"].is_number()) << second;
  EXPECT_EQ(second["folder"], "tanh_stretch_coefficient_.5");
  // One that was interrupted has no manifest yet.
  std::filesystem::remove(folder / "sweep/manifest.json");
  c.options.overwrite = true;
  config.training.lr = 1e-3;
  run_train(config, c);
  EXPECT_TRUE(std::filesystem::exists(folder / "sweep/manifest.json"));
  c.options.overwrite = false;
  {
    const FolderLock lock(folder / "sweep");
    EXPECT_HAS(message_of([&] { run_train(config, c); }), "another process");
  }
  // What is complete has its line all the same.
  config.append_manifest = true;
  config.manifest_path = (folder / "runs.csv").string();
  run_train(config, c);
  ASSERT_EQ(table("runs.csv").num_rows(), 2u);
  EXPECT_EQ(table("runs.csv").number(1, "L0"), table("sweep/sweep.csv").number(1, "l0"));
}

TEST_F(DictionaryVerbs, PlansCountTheRowsOfAllTrainings) {
  const auto plan = [&](const char* kind, std::vector<std::string> sweep) {
    PlanConfig config;
    static_cast<TrainConfig&>(config) = train_config();
    config.kind = kind;
    config.sweep = std::move(sweep);
    auto c = context();
    return run_plan(config, c).summary;
  };
  const double one = 4.0 * kRows * kWidth;
  EXPECT_EQ(plan("crosscoder", {})["resident_bytes"], 3 * one);
  EXPECT_EQ(plan("crosscoder", {"seed=0,1"})["resident_bytes"], 3 * one);
  EXPECT_EQ(plan("sae", {})["resident_bytes"], 3 * one);
  EXPECT_EQ(plan("crosscoder", {"input_preprocess=none,center"})["resident_bytes"], 6 * one);
  // train says the same.
  auto c = context("out");
  c.options.dry_run = true;
  TrainConfig config = train_config();
  config.kind = "sae";
  EXPECT_EQ(run_train(config, c).summary["memory_bytes"], plan("sae", {})["memory_bytes"]);
}

TEST_F(DictionaryVerbs, PlansOfAShapeTakeTheStepsThatAreNamed) {
  const auto trainings = [&](const char* kind, const char* steps, double snapshots,
                             bool smoke = false) {
    PlanConfig config;
    config.training = {.n_epochs = 1, .batch_size = 16, .d_sae = kFeatures};
    config.kind = kind;
    config.steps = steps;
    config.smoke = smoke;
    config.shape = {60, snapshots, 8};
    config.gflops = 10;
    auto c = context();
    const Json said = run_plan(config, c).summary;
    return std::pair{said["trainings"].get<int>(), said["resident_bytes"].get<double>()};
  };
  const double one = 4.0 * 60 * 8;
  EXPECT_EQ(trainings("crosscoder", "all", 32), (std::pair{1, 32 * one}));
  EXPECT_EQ(trainings("crosscoder", "pythia-16", 32), (std::pair{1, 16 * one}));
  EXPECT_EQ(trainings("crosscoder", "all", 32, true), (std::pair{1, 2 * one}));
  EXPECT_EQ(trainings("sae", "143000", 32), (std::pair{1, one}));
  EXPECT_EQ(trainings("sae", "all", 3), (std::pair{3, 3 * one}));
  EXPECT_THROW(trainings("crosscoder", "pythia-32", 1), UsageError);
  EXPECT_THROW(trainings("crosscoder", "nonsense", 32), UsageError);
  EXPECT_THROW(trainings("crosscoder", "log2", 32), UsageError);
}

TEST_F(DictionaryVerbs, EvalRepeatsTheNumbersOfTrain) {
  const Outcome trained = train();
  auto c = context();
  const Outcome evaluated = run_eval(
      {.dict = (folder / "dictionary").string(), .stack = (folder / "stack.safetensors").string()},
      c);
  EXPECT_EQ(evaluated.summary["pooled"], trained.summary["metrics"]["pooled"]);
  EXPECT_EQ(evaluated.summary["snapshots"], trained.summary["metrics"]["snapshots"]);
  EXPECT_EQ(evaluated.summary["snapshots"][2]["step"], 1000);
}

TEST_F(DictionaryVerbs, EvalWritesItsTables) {
  train();
  auto c = context("eval");
  const Outcome outcome =
      run_eval({.dict = (folder / "dictionary/W_U_d24_seed0.safetensors").string(),
                .stack = (folder / "stack.safetensors").string(),
                .heldout = (folder / "heldout.safetensors").string()},
               c);
  ASSERT_EQ(outcome.summary["heldout"].size(), 1u);  // step 10 is a trained one
  EXPECT_EQ(outcome.summary["heldout"][0]["step"], 100);
  EXPECT_EQ(table("eval/quality_pooled.csv").num_rows(), 4u);
  EXPECT_EQ(table("eval/quality_per_snapshot.csv").numbers("step"),
            (std::vector<double>{0, 10, 1000}));
  EXPECT_EQ(table("eval/heldout.csv").number(0, "step_after"), 1000);
  const auto reference = table("eval/heldout_ev.csv");
  EXPECT_EQ(reference.columns().size(), 13u);
  EXPECT_EQ(reference.number(0, "ev_ceiling_t_plus_norm"),
            table("eval/heldout.csv").number(0, "explained_variance_after_normalized"));
  EXPECT_EQ(reference.text(0, "alpha_log").size(), 6u);  // four digits behind the point
  EXPECT_EQ(formats::read_npy(folder / "eval/heldout_residual_norms.npy").shape,
            (std::vector<std::int64_t>{1, 5, kRows}));
  const auto pca = table("eval/pca.csv");
  EXPECT_LE(pca.number(0, "explained_variance"), 1);
  EXPECT_TRUE(pca.has("explained_variance_raw"));
  EXPECT_EQ(read_json_file(folder / "eval/manifest.json")["inputs"].size(), 3u);
  EXPECT_THROW(run_eval({.dict = (folder / "dictionary").string(),
                         .stack = (folder / "stack.safetensors").string()},
                        c),
               Error);  // the folder is there already
}

TEST_F(DictionaryVerbs, EvalWritesBaselines) {
  train();
  auto c = context("eval");
  const Outcome outcome = run_eval({.dict = (folder / "dictionary").string(),
                                    .stack = (folder / "stack.safetensors").string(),
                                    .baselines = true},
                                   c);
  const auto baselines = table("eval/linear_baselines.csv");
  EXPECT_EQ(outcome.summary["baselines"].size(), baselines.num_rows());
  std::map<std::string, std::vector<double>> explained;
  for (std::size_t i = 0; i < baselines.num_rows(); ++i)
    explained[baselines.text(i, "baseline")].push_back(baselines.number(i, "explained_variance"));
  EXPECT_EQ(explained["mean"], (std::vector<double>{0}));
  EXPECT_FALSE(explained.contains("static_pca"));       // the smallest rank, 16, is past the width
  ASSERT_EQ(explained["concatenated_pca"].size(), 1u);  // 16 of 24
  EXPECT_NEAR(explained["concatenated_pca"][0], explained["concatenated_pca_randomized"][0], 1e-5);
  const auto pca = table("eval/pca.csv");
  for (std::size_t i = 0; i < pca.num_rows(); ++i) {
    if (pca.number(i, "rank") != 16) continue;
    EXPECT_EQ(pca.number(i, "explained_variance_raw"), explained["concatenated_pca"][0]);
    EXPECT_EQ(pca.number(i, "explained_variance"), explained["concatenated_pca_scaled"][0]);
  }
  ASSERT_EQ(explained["endpoint_line"].size(), 3u);
  EXPECT_NEAR(explained["endpoint_line"][2], 1, 1e-12);
  EXPECT_LT(explained["endpoint_line"][1], 1);
}

TEST_F(DictionaryVerbs, EvalSaysWhichStepsAStackLacks) {
  train();
  write_stack(folder / "short.safetensors", {matrices[0], matrices[1]}, {0, 10});
  write_stack(folder / "wide.safetensors", {normal({kRows, 9}, 0, "x")}, {0});
  auto c = context();
  const auto message = [&](const char* stack) -> std::string {
    try {
      run_eval({.dict = (folder / "dictionary").string(), .stack = (folder / stack).string()}, c);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("short.safetensors").find("no step 1000"), std::string::npos);
  EXPECT_NE(message("wide.safetensors").find("9 wide"), std::string::npos);
}

TEST_F(DictionaryVerbs, LifecycleWritesATableOfFeatures) {
  train();
  auto c = context("life");
  // Three tokens fewer than rows: the rest is padding and stays out of the lists.
  text::TokenizerParts parts;
  for (int id = 0; id < kRows - 3; ++id)
    parts.vocabulary.push_back({id == 5 ? std::string("\n\xff") : "t" + std::to_string(id), id});
  write_file(folder / "tokenizer.json", text::Tokenizer(parts, "test").to_json());
  const Outcome outcome = run_lifecycle({.dict = (folder / "dictionary").string(),
                                         .stack = (folder / "stack.safetensors").string(),
                                         .tokenizer = (folder / "tokenizer.json").string(),
                                         .top_tokens = 4},
                                        c);
  EXPECT_EQ(outcome.summary["num_features"], kFeatures);
  const auto features = table("life/features.csv");
  ASSERT_EQ(features.num_rows(), static_cast<std::size_t>(kFeatures));
  double alive = 0;
  for (const double a : features.numbers("alive")) alive += a;
  EXPECT_EQ(outcome.summary["alive"], alive);
  EXPECT_EQ(table("life/population.csv").num_rows(), 3u);
  EXPECT_EQ(table("life/steps.csv").numbers("step"), (std::vector<double>{0, 10, 1000}));
  EXPECT_EQ(formats::read_npy(folder / "life/rates.npy").shape,
            (std::vector<std::int64_t>{3, kFeatures}));
  EXPECT_EQ(formats::read_npy(folder / "life/rotation.npy").shape,
            (std::vector<std::int64_t>{2, kFeatures}));
  const auto tokens = table("life/promoted_tokens.csv");
  ASSERT_GT(tokens.num_rows(), 0u);
  const auto steps = tokens.numbers("step");
  EXPECT_EQ(std::set<double>(steps.begin(), steps.end()), (std::set<double>{0, 10, 1000}));
  for (std::size_t i = 0; i < tokens.num_rows(); ++i) {
    EXPECT_LT(tokens.number(i, "token_id"), kRows - 3);
    EXPECT_GT(tokens.number(i, "floor"), 0);
    if (tokens.number(i, "token_id") == 5) {
      EXPECT_EQ(tokens.text(i, "token"), "\\n\\xff");
    }
  }
  const auto suppressed = table("life/suppressed_tokens.csv");
  EXPECT_EQ(suppressed.columns(), tokens.columns());
  ASSERT_EQ(suppressed.num_rows(), tokens.num_rows());
  for (std::size_t i = 0; i < tokens.num_rows(); ++i) {
    EXPECT_LT(suppressed.number(i, "floor"), 0);
    EXPECT_LE(suppressed.number(i, "score"), tokens.number(i, "score"));
  }
  const auto neighbours = table("life/neighbours.csv");
  EXPECT_EQ(neighbours.num_rows(), static_cast<std::size_t>(5 * alive));
  for (std::size_t i = 0; i < neighbours.num_rows(); ++i) {
    EXPECT_NE(neighbours.text(i, "feature"), neighbours.text(i, "neighbour"));
    EXPECT_EQ(neighbours.number(i, "rank"), static_cast<double>(i % 5 + 1));
    EXPECT_LE(neighbours.number(i, "cosine"), 1);
  }
  // Every feature is in one bin of each snapshot, and of all together.
  std::map<std::string, double> counted;
  const auto density = table("life/firing_density.csv");
  for (std::size_t i = 0; i < density.num_rows(); ++i)
    counted[density.text(i, "step")] += density.number(i, "features");
  EXPECT_EQ(counted,
            (std::map<std::string, double>{
                {"", kFeatures}, {"0", kFeatures}, {"10", kFeatures}, {"1000", kFeatures}}));
}

TEST_F(DictionaryVerbs, LifecycleTakesTheStepsItIsGiven) {
  train();
  text::TokenizerParts parts;
  for (int id = 0; id < kRows; ++id) parts.vocabulary.push_back({"t" + std::to_string(id), id});
  write_file(folder / "tokenizer.json", text::Tokenizer(parts, "test").to_json());
  auto c = context("life");
  LifecycleConfig config{.dict = (folder / "dictionary").string(),
                         .stack = (folder / "stack.safetensors").string(),
                         .tokenizer = (folder / "tokenizer.json").string(),
                         .token_steps = "0,1000",
                         .neighbours = 0};
  run_lifecycle(config, c);
  const auto steps = table("life/promoted_tokens.csv").numbers("step");
  EXPECT_EQ(std::set<double>(steps.begin(), steps.end()), (std::set<double>{0, 1000}));
  EXPECT_FALSE(std::filesystem::exists(folder / "life/neighbours.csv"));
  config.token_steps = "7";
  auto other = context("other");
  EXPECT_THROW(run_lifecycle(config, other), Error);
  config = {.dict = config.dict, .stack = config.stack, .neighbours = -1};
  EXPECT_THROW(run_lifecycle(config, other), UsageError);
}

TEST_F(DictionaryVerbs, SpectraWritesSingularValues) {
  auto c = context("spectra");
  const Outcome outcome =
      run_spectra({.inputs = {(folder / "stack.safetensors").string()}, .weights = true}, c);
  EXPECT_EQ(outcome.summary["weights"].size(), 3u);
  EXPECT_EQ(table("spectra/singular_values.csv").num_rows(), static_cast<std::size_t>(3 * kWidth));
  const auto summary = table("spectra/weight_spectra.csv");
  EXPECT_NEAR(summary.number(0, "frobenius_norm"), matrices[0].norm().item<double>(), 1e-3);
}

TEST_F(DictionaryVerbs, RefuseWhatTheyCannotDo) {
  auto c = context();
  EXPECT_THROW(run_train(train_config(), c), UsageError);  // no --out
  auto with_out = context("x");
  TrainConfig other = train_config();
  other.kind = "transcoder";
  EXPECT_THROW(run_train(other, with_out), UsageError);
  EXPECT_THROW(run_eval({.dict = "nowhere"}, c), UsageError);  // no --stack
  EXPECT_THROW(run_spectra({.inputs = {other.stack}}, c), UsageError);
}

}  // namespace
}  // namespace cresco::verbs
