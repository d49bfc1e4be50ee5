#include "cresco/families/neox.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco::families {
namespace {

NeoxConfig pythia(std::int64_t layers, std::int64_t width, std::int64_t heads,
                  std::int64_t vocab = 50304) {
  NeoxConfig c;
  c.num_hidden_layers = layers;
  c.hidden_size = width;
  c.num_attention_heads = heads;
  c.intermediate_size = 4 * width;
  c.vocab_size = vocab;
  return c;
}

// The parameter counts that the suite publishes.
TEST(Neox, CountsPythiasParameters) {
  const auto count = [](const NeoxConfig& c) { return num_parameters(neox_tensors(c)); };
  EXPECT_EQ(count(pythia(6, 128, 4)), 14'067'712);
  EXPECT_EQ(count(pythia(6, 256, 8)), 30'494'720);
  EXPECT_EQ(count(pythia(12, 768, 12)), 162'322'944);
  EXPECT_EQ(count(pythia(32, 4096, 32, 50432)), 6'857'302'016);
  EXPECT_EQ(count(pythia(36, 5120, 40, 50688)), 11'846'072'320);
  EXPECT_EQ(neox_tensors(pythia(12, 768, 12)).size(), 148u);
}

TEST(Neox, ReadsItsOwnConfig) {
  NeoxConfig c = pythia(2, 64, 4);
  c.rotary_pct = 0.5;
  c.use_parallel_residual = false;
  c.hidden_act = "gelu_new";
  const NeoxConfig copy = neox_from_json(neox_to_json(c, "float32", 0), "config.json");
  EXPECT_EQ(neox_to_json(copy, "float32", 0), neox_to_json(c, "float32", 0));
}

TEST(Neox, ReadsEveryGenerationOfRotaryFields) {
  Json base{{"model_type", "gpt_neox"}, {"vocab_size", 10},         {"hidden_size", 64},
            {"num_hidden_layers", 1},   {"num_attention_heads", 4}, {"intermediate_size", 8}};
  Json old = base, middle = base, newest = base, scaled = base;
  old.update({{"rotary_pct", 0.5}, {"rotary_emb_base", 500}});
  middle.update({{"partial_rotary_factor", 0.5}, {"rope_theta", 500.0}, {"rope_scaling", nullptr}});
  newest["rope_parameters"] = {
      {"partial_rotary_factor", 0.5}, {"rope_theta", 500}, {"rope_type", "default"}};
  scaled["rope_scaling"] = {{"rope_type", "yarn"}};
  for (const Json& config : {old, middle, newest}) {
    const NeoxConfig c = neox_from_json(config, "config.json");
    EXPECT_EQ(c.rotary_size(), 8);
    EXPECT_EQ(c.rotary_emb_base, 500);
  }
  EXPECT_THROW(neox_from_json(scaled, "config.json"), Error);
  // One generation wrote both names; a file in which they differ has been edited by hand.
  Json both = old;
  both.update({{"partial_rotary_factor", 0.5}, {"rope_theta", 500.0}});
  EXPECT_EQ(neox_from_json(both, "config.json").rotary_emb_base, 500);
  both["rope_theta"] = 10000;
  EXPECT_THROW(neox_from_json(both, "config.json"), Error);
}

TEST(Neox, RefusesSizesThatDoNotFit) {
  NeoxConfig c = pythia(2, 64, 5);
  EXPECT_THROW(check(c, "recipe"), Error);
  c = pythia(2, 64, 4);
  c.rotary_pct = 0.2;  // 3 of 16
  EXPECT_THROW(check(c, "recipe"), Error);
  c = pythia(0, 64, 4);
  EXPECT_THROW(check(c, "recipe"), Error);
}

TEST(Neox, KnowsItsTensorsByAnyName) {
  EXPECT_EQ(neox_canonical_name("lm_head.weight"), "embed_out.weight");
  EXPECT_EQ(neox_canonical_name("layers.0.mlp.dense_4h_to_h.bias"),
            "gpt_neox.layers.0.mlp.dense_4h_to_h.bias");
  EXPECT_EQ(neox_canonical_name("gpt_neox.layers.3.attention.bias"), "");
  EXPECT_EQ(neox_canonical_name("gpt_neox.layers.3.attention.dense.bias"),
            "gpt_neox.layers.3.attention.dense.bias");
}

}  // namespace
}  // namespace cresco::families
