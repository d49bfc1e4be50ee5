#include "cresco/pretrain/pretrain.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dist/thread_ranks.h"
#include "cresco/formats/megatron.h"
#include "cresco/formats/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <ostream>

namespace cresco::pretrain {
namespace {

// Documents in which each token is followed by its successor four times out of five: quickly
// learned.
void small_corpus(const Path& prefix) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  RandomStream stream(1, "corpus");
  for (int d = 0; d < 60; ++d) {
    std::vector<std::int32_t> ids{static_cast<std::int32_t>(stream.below(20))};
    while (ids.size() < 100)
      ids.push_back(static_cast<std::int32_t>(stream.uniform() < 0.8 ? (ids.back() + 1) % 20
                                                                     : stream.below(20)));
    writer.append(ids);
  }
  writer.commit();
}

Recipe small_recipe() {
  Recipe r;
  families::NeoxConfig& c = r.model.neox;
  c.vocab_size = 20;
  c.hidden_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.intermediate_size = 32;
  c.max_position_embeddings = 16;
  r.data.sequence_length = 16;
  r.data.validation = "0.1";
  r.batch = {8, 4};
  r.budget.steps = 12;
  r.schedule.warmup_steps = 2;
  r.optimizer.lr = 1e-2;
  r.snapshots.at = "log2";
  r.state = {5, 2};
  r.eval = {6, 1000};
  r.log.every = 3;
  return r;
}

Recipe with_corpus(Recipe recipe, const Path& prefix) {
  small_corpus(prefix);
  recipe.data.tokens = prefix.string();
  return recipe;
}

struct Bench {
  explicit Bench(const Recipe& r = small_recipe())
      : recipe(with_corpus(r, folder / "corpus")), data(RunData::open(recipe)) {}
  PretrainResult go(const std::string& name, std::int64_t stop_after = -1,
                    dist::Ranks& ranks = dist::one_rank()) {
    const RunFolder run{folder / name};
    std::filesystem::create_directories(run.path);
    return pretrain({.recipe = recipe,
                     .run = run,
                     .initial = initialise(recipe.model, "small_wang", 3),
                     .end_of_text = 0,
                     .resume_command = "cresco",
                     .stop_after = stop_after,
                     .ranks = &ranks},
                    data, no_progress());
  }
  void go_on_ranks(int size, const std::string& name, std::int64_t stop_after = -1) {
    dist::ThreadRanks::run(size, [&](dist::Ranks& ranks) { go(name, stop_after, ranks); });
  }
  std::vector<Json> metrics(const std::string& name) const {
    return artifacts::read_metrics(folder / name / "metrics.jsonl");
  }
  // Every file by content; the times in metrics and state are left out.
  std::map<std::string, std::string> contents(const std::string& name) const {
    std::map<std::string, std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / name)) {
      if (!entry.is_regular_file()) continue;
      const std::string path = std::filesystem::relative(entry.path(), folder / name).string();
      if (path == "metrics.jsonl") {
        for (Json line : artifacts::read_metrics(entry.path())) {
          line.erase("wall_time");
          line.erase("tokens_per_second");
          found[path] += to_line(line);
        }
      } else if (path.starts_with("tensorboard/")) {  // metrics.jsonl over again, with the times
        found[path];
      } else if (path.ends_with("state.json")) {
        Json state = read_json_file(entry.path());
        state.erase("wall_time");
        found[path] = to_line(state);
      } else {
        found[path] = sha256_of_file(entry.path());
      }
    }
    return found;
  }

  TemporaryFolder folder;
  Recipe recipe;
  RunData data;
};

TEST(Pretrain, LearnsAndWritesItsRun) {
  Recipe recipe = small_recipe();
  recipe.budget.steps = 150;
  Bench bench(recipe);
  const PretrainResult result = bench.go("run");
  EXPECT_EQ(result.step, 150);
  EXPECT_EQ(result.tokens, 150 * 8 * 16);
  EXPECT_EQ(result.snapshots, (std::vector<std::int64_t>{0, 1, 2, 4, 8, 16, 32, 64, 128, 150}));
  // The text's own entropy is about 1.2 nats, ln 20 is 3.0.
  EXPECT_LT(result.val_loss, 2.2);
  const RunFolder run{bench.folder / "run"};
  EXPECT_TRUE(run.is_complete());
  EXPECT_EQ(run.states(), (std::vector<std::int64_t>{145, 150}));
  for (const auto step : result.snapshots)
    EXPECT_TRUE(std::filesystem::exists(run.snapshot(step) / "model.safetensors"));
  const auto lines = artifacts::read_metrics(run.metrics());
  EXPECT_EQ(lines.front()["step"], 0);
  EXPECT_NEAR(lines.front()["val/loss"].get<double>(), std::log(20.0), 0.5);
  EXPECT_EQ(lines.back()["step"], 150);
  EXPECT_EQ(lines.back()["val/loss"].get<double>(), result.val_loss);
}

TEST(Pretrain, ResumesToTheVeryBytes) {
  Bench bench;
  bench.go("whole");
  const auto whole = bench.contents("whole");
  for (const std::int64_t stop : {1, 5, 6, 7, 11}) {
    const std::string name = "stopped" + std::to_string(stop);
    bench.go(name, stop);
    EXPECT_FALSE(RunFolder{bench.folder / name}.is_complete());
    bench.go(name);
    EXPECT_EQ(bench.contents(name), whole) << "stopped after step " << stop;
  }
}

TEST(Pretrain, CheckpointedActivationsChangeNoNumber) {
  for (const char* precision : {"fp32", "bf16"}) {
    std::vector<double> losses;
    for (const bool checkpoints : {false, true}) {
      Recipe recipe = small_recipe();
      recipe.precision = precision;
      recipe.activation_checkpointing = checkpoints;
      Bench bench(recipe);
      bench.go("run");
      losses.push_back(bench.metrics("run").back()["val/loss"].get<double>());
    }
    EXPECT_EQ(losses[0], losses[1]) << precision;
  }
}

struct Variant {
  const char* name;
  std::function<void(Recipe&)> change;
};
std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }

class PretrainVariant : public testing::TestWithParam<Variant> {};

TEST_P(PretrainVariant, ResumesToTheVeryBytes) {
  Recipe recipe = small_recipe();
  GetParam().change(recipe);
  Bench bench(recipe);
  bench.go("whole");
  const auto whole = bench.contents("whole");
  const double first = bench.metrics("whole").front()["val/loss"].get<double>(),
               last = bench.metrics("whole").back()["val/loss"].get<double>();
  EXPECT_LT(last, first) << "nothing was learned";
  for (const std::int64_t stop : {3, 7}) {
    const std::string name = "stopped" + std::to_string(stop);
    bench.go(name, stop);
    bench.go(name);
    EXPECT_EQ(bench.contents(name), whole) << "stopped after step " << stop;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PretrainVariant,
    testing::Values(
        Variant{"bf16", [](Recipe& r) { r.precision = "bf16"; }},
        Variant{"fp16",
                [](Recipe& r) {
                  r.precision = "fp16";
                  r.loss_scale.initial = 1 << 30;  // overflows at first
                  r.loss_scale.window = 2;
                }},
        Variant{"fp16_of_neox",
                [](Recipe& r) {
                  r.precision = "fp16";
                  r.loss_scale = {1 << 24, 3, 2, 1, false};
                }},
        Variant{"muon",
                [](Recipe& r) {
                  r.optimizer.name = "muon";
                  r.optimizer.muon.momentum_warmup_steps = 8;
                }},
        Variant{"sgd",
                [](Recipe& r) {
                  r.optimizer.name = "sgd";
                  r.optimizer.lr = 0.5;
                  r.optimizer.momentum = 0.9;
                }},
        Variant{"adam_with_rules",
                [](Recipe& r) {
                  r.optimizer.name = "adam";
                  r.optimizer.rules = {{.match = "embed_out.*", .lr_multiplier = 0.25},
                                       {.match = "gpt_neox.layers.0.*", .frozen = true}};
                }},
        Variant{"optimizer_in_snapshots",
                [](Recipe& r) {
                  r.snapshots.dtype = "fp16";
                  r.snapshots.optimizer_state = true;
                }},
        Variant{"gpt2",
                [](Recipe& r) {
                  r.model.family = "gpt2";
                  r.model.gpt2 = {
                      .vocab_size = 20, .n_positions = 16, .n_embd = 16, .n_layer = 2, .n_head = 2};
                }}),
    [](const auto& info) { return info.param.name; });

TEST(Pretrain, SkipsStepsThatOverflow) {
  Recipe recipe = small_recipe();
  recipe.precision = "fp16";
  recipe.loss_scale.initial = 1 << 30;
  recipe.log.every = 1;
  Bench bench(recipe);
  bench.go("run");
  const auto lines = bench.metrics("run");
  EXPECT_GT(lines[1]["optim/skipped_steps"].get<int>(), 0);
  EXPECT_TRUE(lines[1]["optim/grad_norm"].is_null());
  EXPECT_LT(lines.back()["optim/skipped_steps"].get<int>(), 12);
  EXPECT_TRUE(lines.back()["optim/grad_norm"].is_number());
  EXPECT_LT(lines.back()["optim/loss_scale"].get<double>(), 1 << 30);
}

TEST(Pretrain, LogsTheNormOfEachGroup) {
  Bench bench;
  bench.go("run");
  const Json line = bench.metrics("run").back();
  double squares = 0;
  for (const char* group : {"embed_in", "embed_out", "matrices", "vectors"})
    squares += std::pow(line[std::string("optim/grad_norm/") + group].get<double>(), 2);
  EXPECT_NEAR(std::sqrt(squares), line["optim/grad_norm"].get<double>(), 1e-6);
}

TEST(Pretrain, LeavesFrozenTensorsAlone) {
  Recipe recipe = small_recipe();
  recipe.optimizer.rules = {{.match = "embed_*", .frozen = true}};
  recipe.optimizer.rules.push_back({.match = "gpt_neox.embed_in.*", .frozen = true});
  Bench bench(recipe);
  bench.go("run");
  const RunFolder run{bench.folder / "run"};
  const formats::SafetensorsFile first(run.snapshot(0) / "model.safetensors"),
      last(run.snapshot(12) / "model.safetensors");
  for (const auto& [name, t] : initialise(recipe.model, "small_wang", 3)) {
    const bool frozen = name.find("embed_") != std::string::npos;
    EXPECT_EQ(tensor::to_tensor(first.tensor(name)).equal(tensor::to_tensor(last.tensor(name))),
              frozen)
        << name;
  }
}

// Micro-batches and ranks change the order of sums, nothing else.
TEST(Pretrain, ReadsTheSameDataHoweverItIsCut) {
  Bench bench;
  bench.go("micro");
  const auto expect_same = [&](const std::string& name) {
    const auto lines = bench.metrics("micro"), others = bench.metrics(name);
    ASSERT_EQ(lines.size(), others.size()) << name;
    for (std::size_t i = 0; i < lines.size(); ++i)
      for (const char* key : {"train/loss", "val/loss"}) {
        if (!lines[i].contains(key)) continue;
        EXPECT_NEAR(lines[i][key].get<double>(), others[i][key].get<double>(), 1e-5)
            << name << " " << key << " " << i;
      }
  };
  bench.go_on_ranks(2, "two");
  expect_same("two");
  bench.go_on_ranks(4, "four");
  expect_same("four");
  // From one number of ranks to another.
  bench.go_on_ranks(2, "moved", 5);
  bench.go_on_ranks(4, "moved", 10);
  bench.go("moved");
  expect_same("moved");
  bench.recipe.batch.micro_sequences = 8;
  bench.go("one");
  expect_same("one");
  bench.recipe.batch.sequences = 6;
  EXPECT_THROW(bench.go_on_ranks(4, "uneven"), UsageError);
}

TEST(Pretrain, StopsAtANumberThatIsNotFinite) {
  Bench bench;
  auto initial = initialise(bench.recipe.model, "small_wang", 3);
  initial[5].second.fill_(std::numeric_limits<float>::quiet_NaN());
  const RunFolder run{bench.folder / "nan"};
  std::filesystem::create_directories(run.path);
  try {
    pretrain({.recipe = bench.recipe, .run = run, .initial = initial}, bench.data, no_progress());
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("step 0: "), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("not finite"), std::string::npos) << e.what();
  }
}

TEST(Pretrain, RefusesACorpusThatDoesNotFit) {
  TemporaryFolder folder;
  Recipe recipe = with_corpus(small_recipe(), folder / "c");
  const RunData data = RunData::open(recipe);
  recipe.data.sequence_length = 100'000;
  EXPECT_THROW(RunData::open(recipe), Error);
  EXPECT_THROW(read_batch(data, 0, 4, /*vocab_size=*/10), Error);
}

TEST(RunFolder, NamesTheFieldsThatChanged) {
  Recipe recipe = small_recipe();
  EXPECT_TRUE(field_differences(small_recipe(), recipe).empty());
  recipe.optimizer.lr = 2e-2;
  recipe.budget.steps = 13;
  std::vector<std::string> found;
  for (const Difference& d : field_differences(small_recipe(), recipe)) found.push_back(to_text(d));
  EXPECT_EQ(found, (std::vector<std::string>{"budget.steps was 12, now it is 13",
                                             "optimizer.lr was 0.01, now it is 0.02"}));
}

}  // namespace
}  // namespace cresco::pretrain
