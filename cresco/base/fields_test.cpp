#include "cresco/base/fields.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>
#include <nlohmann/json.hpp>

namespace cresco {
namespace {

struct Rule {
  std::string match;
  double lr_multiplier = 1.0;
  void fields(FieldVisitor& v) {
    v.field("match", match, "pattern of tensor names");
    v.field("lr_multiplier", lr_multiplier, "factor on the learning rate");
  }
};

struct Optimizer {
  double lr = 1e-3;
  std::vector<double> betas{0.9, 0.95};
  std::vector<Rule> rules;
  void fields(FieldVisitor& v) {
    v.field("lr", lr, "learning rate");
    v.field("betas", betas, "decay of the moments");
    v.list("rules", field_list(rules), "rules by tensor name");
  }
};

struct Recipe {
  std::string at = "log2";
  std::int64_t tokens = 0;
  bool tied = false;
  Optimizer optimizer;
  void fields(FieldVisitor& v) {
    v.field("at", at, "when");
    v.field("tokens", tokens, "how many", "tokens");
    v.field("tied", tied, "one matrix for both");
    v.config("optimizer", optimizer, "the optimizer");
  }
};

Fields fields_of(Recipe& recipe) {
  return [&recipe](FieldVisitor& v) { recipe.fields(v); };
}

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Fields, AreReadFromYaml) {
  Recipe recipe;
  fields_from_yaml(fields_of(recipe), YAML::Load(R"(
at: [0, 1, 2]
tokens: 10e9
tied: true
optimizer: {lr: 5e-5, betas: [0.8, 0.9], rules: [{match: "embed_out.*", lr_multiplier: 4}]}
)"),
                   "recipe");
  EXPECT_EQ(recipe.at, "0,1,2");
  EXPECT_EQ(recipe.tokens, 10'000'000'000);
  EXPECT_TRUE(recipe.tied);
  EXPECT_DOUBLE_EQ(recipe.optimizer.lr, 5e-5);
  EXPECT_EQ(recipe.optimizer.betas, (std::vector<double>{0.8, 0.9}));
  ASSERT_EQ(recipe.optimizer.rules.size(), 1u);
  EXPECT_EQ(recipe.optimizer.rules[0].match, "embed_out.*");
}

TEST(Fields, SurviveYamlAndJsonUnchanged) {
  Recipe recipe;
  recipe.at = "true";  // text that YAML would otherwise read as something else
  recipe.tokens = 123456789012345;
  recipe.optimizer.lr = 0.1 + 0.2;
  recipe.optimizer.rules.push_back({"a: b", 1e-8});
  recipe.optimizer.rules.push_back({"*.bias", 2});
  Recipe from_yaml, from_json;
  fields_from_yaml(fields_of(from_yaml), YAML::Load(fields_to_yaml(fields_of(recipe))), "copy");
  fields_from_json(fields_of(from_json), fields_to_json(fields_of(recipe)), "copy");
  for (Recipe* copy : {&from_yaml, &from_json})
    EXPECT_EQ(fields_to_json(fields_of(*copy)), fields_to_json(fields_of(recipe)));
}

TEST(Fields, NameTheNearestKnownOne) {
  Recipe recipe;
  EXPECT_EQ(message_of([&] { set_field(fields_of(recipe), "optimizer.lrr=1"); }),
            "--set optimizer.lrr: optimizer: unknown field 'lrr' (did you mean 'lr'?)");
  EXPECT_EQ(message_of([&] {
              fields_from_yaml(fields_of(recipe), YAML::Load("optimiser: {}"), "r.yaml");
            }),
            "r.yaml: unknown field 'optimiser' (did you mean 'optimizer'?)");
}

TEST(Fields, RefuseValuesOfTheWrongKind) {
  Recipe recipe;
  EXPECT_EQ(message_of([&] { set_field(fields_of(recipe), "tokens=many"); }),
            "--set tokens: tokens: 'many' is not a whole number");
  EXPECT_NE(message_of([&] { set_field(fields_of(recipe), "tokens=1.5"); }), "no error");
  EXPECT_NE(message_of([&] { set_field(fields_of(recipe), "tied=perhaps"); }), "no error");
  EXPECT_NE(message_of([&] { set_field(fields_of(recipe), "optimizer=3"); }), "no error");
  EXPECT_NE(message_of([&] { set_field(fields_of(recipe), "no equals sign"); }), "no error");
}

struct Renamed {
  double lr = 1;
  std::string optimizer = "adam";
  void fields(FieldVisitor& v) {
    v.alias("learning_rate", "lr");
    v.alias("use_sparse_adam", "optimizer", "sparse_adam");
    v.field("lr", lr, "learning rate");
    v.field("optimizer", optimizer, "which");
  }
};

TEST(Fields, GoByOtherNamesWhereverTheyAreRead) {
  Renamed config;
  const Fields fields = [&](FieldVisitor& v) { config.fields(v); };
  fields_from_yaml(fields, YAML::Load("{learning_rate: 0.5, use_sparse_adam: true}"), "x");
  EXPECT_EQ(config.lr, 0.5);
  EXPECT_EQ(config.optimizer, "sparse_adam");
  set_field(fields, "learning_rate=0.25");
  EXPECT_EQ(config.lr, 0.25);
  set_field(fields, "optimizer=adam");
  set_field(fields, "use_sparse_adam=false");
  EXPECT_EQ(config.optimizer, "adam");
  EXPECT_EQ(fields_to_json(fields).dump(), R"({"lr":0.25,"optimizer":"adam"})");
  EXPECT_EQ(
      message_of([&] { fields_from_yaml(fields, YAML::Load("{lr: 1, learning_rate: 2}"), "x"); }),
      "x: 'lr' and 'learning_rate' are one setting, given twice");
  EXPECT_NE(message_of([&] { set_field(fields, "lr=fast", "--sweep"); }).find("--sweep lr"),
            std::string::npos);
  const auto aliases = aliases_of(fields);
  ASSERT_EQ(aliases.size(), 2u);
  EXPECT_EQ(aliases[1].path + aliases[1].value, "optimizersparse_adam");
}

TEST(SettingsFile, ArmsStateTheirDifference) {
  const TemporaryFolder folder;
  write_file(folder / "r.yaml", R"(
tokens: 7
optimizer: {lr: 0.5}
arms:
  baseline:
  low: {optimizer.lr: 0.25, optimizer.rules: [{match: "a.*", lr_multiplier: 4}]}
  nested: {optimizer: {lr: 0.125}, tokens: 9}
)");
  const SettingsFile file((folder / "r.yaml").string());
  EXPECT_EQ(file.arms(), (std::vector<std::string>{"baseline", "low", "nested"}));
  const auto with = [&](const std::string& arm) {
    Recipe recipe;
    file.apply(fields_of(recipe), arm);
    return recipe;
  };
  for (const char* arm : {"", "baseline"}) {
    EXPECT_EQ(with(arm).tokens, 7);
    EXPECT_EQ(with(arm).optimizer.lr, 0.5);
    EXPECT_TRUE(with(arm).optimizer.rules.empty());
  }
  EXPECT_EQ(with("low").tokens, 7);
  EXPECT_EQ(with("low").optimizer.lr, 0.25);
  ASSERT_EQ(with("low").optimizer.rules.size(), 1u);
  EXPECT_EQ(with("low").optimizer.rules[0].match, "a.*");
  EXPECT_EQ(with("nested").optimizer.lr, 0.125);
  EXPECT_EQ(with("nested").tokens, 9);
  EXPECT_NE(message_of([&] { with("lo"); }).find("has no arm 'lo' (did you mean 'low'?)"),
            std::string::npos);
  for (const char* bad : {"arms: [a]", "arms: {all: {}}", "arms: {a/b: {}}", "arms: {a:b: {}}",
                          "arms: {a: 3}", "arms: {a: {}, a: {}}", "arms: {a: {}}\n---\nseed: 1"}) {
    write_file(folder / "bad.yaml", bad);
    EXPECT_THROW(SettingsFile((folder / "bad.yaml").string()), UsageError) << bad;
  }
  write_file(folder / "unknown.yaml", "arms: {a: {optimizer.lrr: 1}}");
  const SettingsFile unknown((folder / "unknown.yaml").string());
  EXPECT_NE(message_of([&] {
              Recipe recipe;
              unknown.apply(fields_of(recipe), "a");
            }).find("arms: a: optimizer.lrr: optimizer: unknown field 'lrr' (did you mean 'lr'?)"),
            std::string::npos);
}

}  // namespace
}  // namespace cresco
