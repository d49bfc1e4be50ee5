#include "cresco/pretrain/pretrain.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <limits>
#include <map>

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
  PretrainResult go(const std::string& name, std::int64_t stop_after = -1) {
    const RunFolder run{folder / name};
    std::filesystem::create_directories(run.path);
    return pretrain({recipe, run, models::initialise(recipe.model.neox, "small_wang", 3), 0,
                     "cresco", stop_after},
                    data, no_progress());
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

TEST(Pretrain, AccumulatesMicroBatches) {
  Bench bench;
  bench.go("micro");
  bench.recipe.batch.micro_sequences = 8;
  bench.go("one");
  const auto loss = [&](const char* name) {
    return artifacts::read_metrics(bench.folder / name / "metrics.jsonl")
        .back()["train/loss"]
        .get<double>();
  };
  EXPECT_NEAR(loss("micro"), loss("one"), 1e-4);
}

TEST(Pretrain, StopsAtANumberThatIsNotFinite) {
  Bench bench;
  auto initial = models::initialise(bench.recipe.model.neox, "small_wang", 3);
  initial[5].second.fill_(std::numeric_limits<float>::quiet_NaN());
  const RunFolder run{bench.folder / "nan"};
  std::filesystem::create_directories(run.path);
  try {
    pretrain({bench.recipe, run, initial, 0, "cresco", -1}, bench.data, no_progress());
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

TEST(RunFolder, NamesTheFieldThatChanged) {
  const TemporaryFolder folder;
  Recipe recipe = small_recipe();
  write_file(folder / "recipe.yaml", fields_to_yaml([&](FieldVisitor& v) { recipe.fields(v); }));
  require_same_recipe({folder.path()}, recipe);
  recipe.optimizer.lr = 2e-2;
  try {
    require_same_recipe({folder.path()}, recipe);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("optimizer.lr was 0.01, now it is 0.02"),
              std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace cresco::pretrain
