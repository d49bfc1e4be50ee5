#include "cresco/optim/optimizer_config.h"

#include "cresco/base/files.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::optim {
namespace {

std::string wrong(const OptimizerConfig& config) {
  try {
    check(config);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(OptimizerConfig, NamesTheWrongField) {
  EXPECT_EQ(wrong({}), "");
  EXPECT_EQ(wrong({.name = "muon"}), "");
  EXPECT_EQ(wrong({.name = "sgd", .momentum = 0.9, .nesterov = true}), "");
  EXPECT_NE(wrong({.name = "adamv"}).find("optimizer.name 'adamv'"), std::string::npos);
  EXPECT_NE(wrong({.name = "muom"}).find("did you mean 'muon'"), std::string::npos);
  EXPECT_NE(wrong({.lr = -1}).find("optimizer.lr"), std::string::npos);
  EXPECT_NE(wrong({.betas = {0.9}}).find("optimizer.betas"), std::string::npos);
  EXPECT_NE(wrong({.weight_decay = -1}).find("optimizer.weight_decay"), std::string::npos);
  EXPECT_NE(wrong({.grad_clip = -1}).find("optimizer.grad_clip"), std::string::npos);
  EXPECT_NE(wrong({.momentum = 0.9}).find("optimizer.momentum is sgd's"), std::string::npos);
  EXPECT_NE(wrong({.name = "muon", .momentum = 0.9}).find("optimizer.muon.momentum"),
            std::string::npos);
  EXPECT_NE(wrong({.name = "sgd", .nesterov = true}).find("optimizer.nesterov"), std::string::npos);
  const auto muon = [](const MuonConfig& m) { return wrong({.name = "muon", .muon = m}); };
  EXPECT_NE(muon({.lr = -1}).find("optimizer.muon.lr"), std::string::npos);
  EXPECT_NE(muon({.momentum = 1}).find("optimizer.muon.momentum"), std::string::npos);
  EXPECT_NE(muon({.ns_steps = 0}).find("optimizer.muon.ns_steps"), std::string::npos);
  EXPECT_NE(muon({.ns_coefficients = {1, 2}}).find("optimizer.muon.ns_coefficients"),
            std::string::npos);
  EXPECT_NE(muon({.adjust_lr_fn = "orignal"}).find("did you mean 'original'"), std::string::npos);
  const auto rule = [](const std::string& name, const ParameterRule& r) {
    return wrong({.name = name, .rules = {r}});
  };
  EXPECT_NE(rule("adamw", {.match = "a", .optimizer = "muon"}).find("rules[0].optimizer is muon"),
            std::string::npos);
  EXPECT_NE(rule("muon", {.match = "a", .optimizer = "sgd"}).find("rules[0].optimizer 'sgd'"),
            std::string::npos);
  EXPECT_NE(rule("muon", {.lr_multiplier = 2}).find("rules[0].match"), std::string::npos);
  EXPECT_NE(rule("adamw", {.match = "a", .lr_multiplier = -2}).find("lr_multiplier is -2"),
            std::string::npos);
  EXPECT_NE(muon({.weight_decay = -2}).find("muon.weight_decay is -2"), std::string::npos);
}

TEST(OptimizerConfig, KeepsWhatARuleDoesNotSet) {
  const TemporaryFolder folder;
  OptimizerConfig config, read;
  config.rules = {{.match = "a", .lr_multiplier = 0.25}, {.match = "b", .frozen = false}};
  const auto fields = [](OptimizerConfig& c) { return [&c](FieldVisitor& v) { c.fields(v); }; };
  write_file(folder / "optimizer.yaml", fields_to_yaml(fields(config)));
  fields_from_yaml_file(fields(read), (folder / "optimizer.yaml").string());
  ASSERT_EQ(read.rules.size(), 2u);
  EXPECT_EQ(read.rules[0].lr_multiplier, 0.25);
  EXPECT_FALSE(read.rules[0].weight_decay || read.rules[0].frozen || read.rules[1].lr_multiplier);
  EXPECT_EQ(read.rules[1].frozen, false);
}

TEST(TensorSettings, AreTheRecipeControls) {
  OptimizerConfig config{.lr = 1e-3};
  config.rules = {{.match = "embed_out.*", .lr_multiplier = 4}};
  const at::Tensor matrix = at::zeros({4, 3}), vector = at::zeros({4});
  const TensorSettings body =
      settings_of(config, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", matrix);
  EXPECT_EQ(body.algorithm, "adamw");
  EXPECT_EQ(body.lr, 1e-3);
  EXPECT_EQ(body.weight_decay, 0.1);
  EXPECT_EQ(body.group, "matrices");
  const TensorSettings bias =
      settings_of(config, "gpt_neox.layers.0.mlp.dense_h_to_4h.bias", vector);
  EXPECT_EQ(bias.weight_decay, 0);
  EXPECT_EQ(bias.group, "vectors");
  const TensorSettings input = settings_of(config, "gpt_neox.embed_in.weight", matrix);
  EXPECT_EQ(input.lr, 1e-3);
  EXPECT_EQ(input.weight_decay, 0.1);
  EXPECT_EQ(input.group, "embed_in");
  const TensorSettings readout = settings_of(config, "embed_out.weight", matrix);
  EXPECT_EQ(readout.lr, 4e-3);
  EXPECT_EQ(readout.weight_decay, 0.1);
  EXPECT_EQ(readout.group, "embed_out");
}

TEST(TensorSettings, LaterRulesWin) {
  OptimizerConfig config;
  config.rules = {{.match = "*", .weight_decay = 0.5, .frozen = true},
                  {.match = "a*", .lr_multiplier = 0, .group = "first"},
                  {.match = "ab", .weight_decay = 0}};
  const TensorSettings ab = settings_of(config, "ab", at::zeros({2, 2}));
  EXPECT_EQ(ab.lr, 0);
  EXPECT_EQ(ab.weight_decay, 0);
  EXPECT_TRUE(ab.frozen);  // what they don't set stays
  EXPECT_EQ(ab.group, "first");
  config.rules.push_back({.match = "ab", .frozen = false});
  EXPECT_FALSE(settings_of(config, "ab", at::zeros({2, 2})).frozen);
  EXPECT_TRUE(settings_of(config, "ac", at::zeros({2, 2})).frozen);
  EXPECT_EQ(settings_of(config, "b", at::zeros({2})).weight_decay, 0.5);
}

TEST(TensorSettings, MuonHasTheMatricesOfTheBody) {
  OptimizerConfig config{.name = "muon", .lr = 1e-3, .weight_decay = 0.2};
  config.muon.lr = 0.05;
  const at::Tensor matrix = at::zeros({4, 3});
  const auto algorithm = [&](const char* name, const at::Tensor& p) {
    return settings_of(config, name, p).algorithm;
  };
  for (const char* name : {"gpt_neox.embed_in.weight", "embed_out.weight", "transformer.wte.weight",
                           "transformer.wpe.weight", "lm_head.weight", "model.embed_tokens.weight"})
    EXPECT_EQ(algorithm(name, matrix), "adamw") << name;
  EXPECT_EQ(algorithm("layers.0.bias", at::zeros({4})), "adamw");
  EXPECT_EQ(algorithm("layers.0.experts", at::zeros({2, 3, 4})), "adamw");
  EXPECT_EQ(algorithm("layers.0.attention.dense.weight", matrix), "muon");

  const TensorSettings plain = settings_of(config, "layers.0.dense.weight", matrix);
  EXPECT_EQ(plain.lr, 0.05);
  EXPECT_EQ(plain.weight_decay, 0.2);
  config.muon.weight_decay = 0;
  config.rules = {{.match = "*dense*", .lr_multiplier = 2},
                  {.match = "embed_out*", .optimizer = "muon"},
                  {.match = "*mlp*", .optimizer = "adamw"}};
  EXPECT_EQ(settings_of(config, "layers.0.dense.weight", matrix).lr, 0.1);
  EXPECT_EQ(settings_of(config, "layers.0.dense.weight", matrix).weight_decay, 0);
  EXPECT_EQ(algorithm("embed_out.weight", matrix), "muon");
  EXPECT_EQ(algorithm("layers.0.mlp.weight", matrix), "adamw");
  EXPECT_EQ(settings_of(config, "layers.0.mlp.weight", matrix).lr, 1e-3);
}

TEST(CheckRules, RefusesBlindRulesAndMuonOnVectors) {
  const std::vector<tensor::NamedTensor> parameters{{"embed_out.weight", at::zeros({2, 2})},
                                                    {"norm.weight", at::zeros({2})}};
  const auto message = [&](const OptimizerConfig& config) -> std::string {
    try {
      check_rules(config, parameters);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message({.rules = {{.match = "embed_outt.weight"}}}).find("did you mean"),
            std::string::npos);
  EXPECT_NE(message({.name = "muon", .rules = {{.match = "norm*", .optimizer = "muon"}}})
                .find("'norm.weight' has shape"),
            std::string::npos);
  EXPECT_EQ(message({.name = "muon", .rules = {{.match = "embed*", .optimizer = "muon"}}}), "");
}

}  // namespace
}  // namespace cresco::optim
