#include "cresco/pretrain/recipe.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/trajectories/steps.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco::pretrain {
namespace {

Recipe good() {
  Recipe r;
  r.budget.steps = 10;
  return r;
}

std::string error_of(const Recipe& r) {
  try {
    check(r);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(Recipe, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(error_of(good()), "");
  const auto wrong = [](const std::string& assignment) {
    Recipe r = good();
    set_field([&](FieldVisitor& v) { r.fields(v); }, assignment);
    return error_of(r);
  };
  EXPECT_NE(wrong("model.num_attention_heads=7").find("hidden_size 512"), std::string::npos);
  EXPECT_NE(wrong("batch.micro_sequences=5").find("batch.micro_sequences 5"), std::string::npos);
  EXPECT_NE(wrong("budget.tokens=5").find("budget"), std::string::npos);
  EXPECT_NE(wrong("data.sequence_length=4096").find("longest context"), std::string::npos);
  EXPECT_NE(wrong("schedule.name=cosin").find("did you mean 'cosine'"), std::string::npos);
  EXPECT_NE(wrong("optimizer.betas=[0.9]"), "");
  EXPECT_NE(wrong("snapshots.at=often"), "");
  EXPECT_NE(wrong("precision=fp8"), "");
}

void read_yaml(const std::string& text, Recipe& recipe) {
  const TemporaryFolder folder;
  write_file(folder / "recipe.yaml", text);
  fields_from_yaml_file([&](FieldVisitor& v) { recipe.fields(v); },
                        (folder / "recipe.yaml").string());
}

Recipe from_yaml(const std::string& text) {
  Recipe r = good();
  read_yaml(text, r);
  return r;
}

TEST(Recipe, TakesOneCorpusOrSeveral) {
  const Recipe one = from_yaml("data: {tokens: a/b}");
  ASSERT_EQ(one.data.sources().size(), 1u);
  EXPECT_EQ(one.data.sources()[0].prefix, "a/b");
  Recipe two = from_yaml("data: {tokens: [{prefix: a, weight: 0.7}, {prefix: b, weight: 0.3}]}");
  EXPECT_EQ(error_of(two), "");
  const auto is_both = [](const Recipe& r) {
    ASSERT_EQ(r.data.sources().size(), 2u);
    EXPECT_EQ(r.data.sources()[1].prefix, "b");
    EXPECT_EQ(r.data.sources()[1].weight, 0.3);
  };
  is_both(two);
  const auto fields = [&](FieldVisitor& v) { two.fields(v); };
  is_both(from_yaml(fields_to_yaml(fields)));
  // The word of a command line counts, and a recipe read over another replaces either by either.
  assign_fields(fields, {{"data.tokens", {"c"}}});
  EXPECT_EQ(two.data.sources().size(), 1u);
  EXPECT_EQ(from_yaml(fields_to_yaml(fields)).data.sources()[0].prefix, "c");
  read_yaml("data: {tokens: [{prefix: d}]}", two);
  EXPECT_EQ(two.data.sources()[0].prefix, "d");
  read_yaml("data: {tokens: e}", two);
  EXPECT_EQ(two.data.sources()[0].prefix, "e");
  EXPECT_TRUE(two.data.mixture.empty());
}

TEST(Recipe, NamesWhatIsWrongWithItsData) {
  const auto error = [](const std::string& data) { return error_of(from_yaml("data: " + data)); };
  EXPECT_EQ(error("{order: numpy, window: block, validation: \"blocks:256\"}"), "");
  EXPECT_EQ(error("{order: pythia, window: row2049, validation: 0.01}"), "");
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"{order: shufled}", "did you mean 'shuffled'"},
      {"{order: random}", "shuffled, sequential, pythia, numpy"},
      {"{window: blocks}", "did you mean 'block'"},
      {"{window: row}", "overlap, block, row2049"},
      {"{order: pythia}", "expected row2049"},
      {"{order: pythia, window: block}", "order sequential"},
      {"{order: numpy, seed: -1}", "data.seed is -1"},
      {"{window: block, sequence_length: 1}", "data.sequence_length is 1"},
      {"{validation: 0}", "between 0 and 1"},
      {"{validation: 1.5}", "1.5"},
      {"{validation: 1e}", "data.validation"},
      {"{validation: \"\"}", "data.validation is empty"},
      {"{validation: \"blocks:\"}", "blocks"},
      {"{validation: \"blocks:0\"}", "blocks:0"},
      {"{validation: \"blocks:many\"}", "many"},
      {"{tokens: [{prefix: a, weight: 0}, {prefix: b}]}",
       "data.tokens: a weight of a mixture is 0"},
      {"{tokens: [{prefix: a, weight: nan}, {prefix: b}]}", "data.tokens"},
      {"{tokens: [{weight: 1}]}", "data.tokens[0].prefix"}};
  for (const auto& [data, says] : wrong)
    EXPECT_NE(error(data).find(says), std::string::npos) << data << ": " << error(data);
  EXPECT_THROW(from_yaml("data: {tokens: [{prefx: a}]}"), UsageError);
  EXPECT_THROW(from_yaml("data: {tokens: [{prefix: a}, b]}"), UsageError);
  EXPECT_THROW(from_yaml("data: {tokens: {prefix: a}}"), UsageError);
}

TEST(Recipe, CountsStepsAndWork) {
  Recipe r;
  r.budget.tokens = 10'000'000'000;
  r.batch.sequences = 1024;
  EXPECT_EQ(r.total_steps(), 4769);
}

// ---- the recipes of recipes/ ----

Recipe named(const std::string& name, const std::string& arm = "") {
  Recipe recipe;
  SettingsFile((Path(CRESCO_SOURCE_DIR) / "recipes" / (name + ".yaml")).string())
      .apply([&](FieldVisitor& v) { recipe.fields(v); }, arm);
  Recipe checked = recipe;
  if (checked.model.vocab_size() == 0) checked.model.vocab_size() = 2048;  // the tokenizer's
  check(checked);
  return recipe;
}

TEST(Recipes, HaveTheModelsOfTheSuite) {
  const std::vector<std::pair<std::string, std::int64_t>> sizes{
      {"recipe-control", 30494720}, {"pythia/14m", 14067712},           {"pythia/31m", 30494720},
      {"pythia/70m", 70426624},     {"pythia/160m", 162322944},         {"pythia/410m", 405334016},
      {"pythia/1b", 1011781632},    {"gpt2-124m", 124439808 + 47 * 768}};
  for (const auto& [name, parameters] : sizes)
    EXPECT_EQ(families::num_parameters(named(name).model.tensors()), parameters) << name;
}

TEST(Recipes, ArmsOfRecipeControlDifferInOneThing) {
  const auto json = [](Recipe r) { return fields_to_json([&](FieldVisitor& v) { r.fields(v); }); };
  for (const char* name : {"recipe-control", "recipe-control-small"}) {
    const Json baseline = json(named(name, "baseline"));
    EXPECT_EQ(baseline, json(named(name)));
    for (const auto& [arm, field] :
         std::vector<std::pair<std::string, std::string>>{{"long_warmup", "schedule.warmup_steps"},
                                                          {"warmup_short", "schedule.warmup_steps"},
                                                          {"wu_lr_0p25", "optimizer.rules"},
                                                          {"wu_lr_4x", "optimizer.rules"}}) {
      const auto found = differences(baseline, json(named(name, arm)));
      ASSERT_EQ(found.size(), 1u) << arm;
      EXPECT_EQ(found[0].path, field) << arm;
    }
  }
}

TEST(Recipes, RecipeControlIsThePublishedOne) {
  const Recipe r = named("recipe-control");
  EXPECT_EQ(r.tokens_per_step(), 2097152);
  EXPECT_EQ(r.total_steps(), 4769);
  const auto factor = [](const Recipe& recipe, std::int64_t step) {
    return optim::lr_factor(recipe.schedule, step, recipe.total_steps());
  };
  EXPECT_EQ(factor(r, 0), 0);
  EXPECT_EQ(factor(r, 1430), 1);
  EXPECT_NEAR(factor(r, 4769), 0.9988, 5e-5);
  EXPECT_NEAR(factor(named("recipe-control", "long_warmup"), 4769), 0.834, 5e-4);
  EXPECT_EQ(r.snapshot_steps(), (std::vector<std::int64_t>{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512,
                                                           1024, 2048, 4096, 4769}));
  EXPECT_TRUE(r.loss_scale.schedule_advances_on_overflow);
}

TEST(Recipes, PythiaHasTheRatesOfTheSuite) {
  const Recipe r = named("pythia/160m");
  const auto factor = [&](std::int64_t step) {
    return optim::lr_factor(r.schedule, step, r.total_steps());
  };
  EXPECT_EQ(factor(0), 0);
  EXPECT_NEAR(factor(71500), 0.5157, 5e-5);  // divided by all steps, not by those left
  EXPECT_GT(factor(115138), 0.1);
  EXPECT_EQ(factor(115139), 0.1);
  EXPECT_FALSE(r.loss_scale.schedule_advances_on_overflow);
  EXPECT_EQ(r.snapshot_steps().size(), 154u);
}

}  // namespace
}  // namespace cresco::pretrain
