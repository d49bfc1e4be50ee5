#include "cresco/families/gpt2.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco::families {
namespace {

Gpt2Config gpt2(std::int64_t layers, std::int64_t width, std::int64_t heads) {
  Gpt2Config c;
  c.n_layer = layers;
  c.n_embd = width;
  c.n_head = heads;
  return c;
}

// The published counts of the four sizes.
TEST(Gpt2, CountsItsParameters) {
  const auto count = [](const Gpt2Config& c) { return num_parameters(gpt2_tensors(c)); };
  EXPECT_EQ(count(gpt2(12, 768, 12)), 124'439'808);
  EXPECT_EQ(count(gpt2(24, 1024, 16)), 354'823'168);
  EXPECT_EQ(count(gpt2(36, 1280, 20)), 774'030'080);
  EXPECT_EQ(count(gpt2(48, 1600, 25)), 1'557'611'200);
  EXPECT_EQ(gpt2_tensors(gpt2(12, 768, 12)).size(), 148u);
}

TEST(Gpt2, ReadsNanogptsArguments) {
  const Json args{{"n_layer", 12}, {"n_head", 12},  {"n_embd", 768},      {"block_size", 1024},
                  {"bias", false}, {"dropout", 0.}, {"vocab_size", 50304}};
  const Json config = gpt2_config_from_nanogpt(args, "ckpt.pt");
  const Gpt2Config c = gpt2_from_json(config, "ckpt.pt");
  EXPECT_FALSE(c.conv1d);
  EXPECT_EQ(c.activation_function, "gelu");
  EXPECT_EQ(config["n_inner"], nullptr);
  // It prints 123.59M: all but the 786,432 of the position embedding.
  EXPECT_EQ(num_parameters(gpt2_tensors(c)), 123'587'328 + 786'432);
  EXPECT_EQ(gpt2_tensors(c)[3].shape, (std::vector<std::int64_t>{2304, 768}));
  Json broken = args;
  broken["bias"] = "no";
  EXPECT_THROW(gpt2_config_from_nanogpt(broken, "ckpt.pt"), Error);
  broken = args;
  broken.erase("block_size");
  EXPECT_THROW(gpt2_config_from_nanogpt(broken, "ckpt.pt"), Error);
}

TEST(Gpt2, ReadsLlmcsHeader) {
  const Gpt2Config c = gpt2_from_json(gpt2_config_from_llmc(1024, 50304, 12, 12, 768), "model.bin");
  EXPECT_FALSE(c.conv1d);
  EXPECT_TRUE(c.bias && c.tie_word_embeddings);
  EXPECT_EQ(c.activation_function, "gelu_new");
  EXPECT_EQ(num_parameters(gpt2_tensors(c)), 124'439'808 + (50304 - 50257) * 768);
}

TEST(Gpt2, StoresMatricesInTheOrientationOfItsProgram) {
  Gpt2Config c = gpt2(1, 8, 2);
  c.n_inner = 24;
  const auto shape = [&](const std::string& name) {
    for (const TensorSpec& spec : gpt2_tensors(c))
      if (spec.name == "transformer.h.0." + name) return spec.shape;
    return std::vector<std::int64_t>{};
  };
  EXPECT_EQ(shape("mlp.c_fc.weight"), (std::vector<std::int64_t>{8, 24}));
  EXPECT_EQ(shape("mlp.c_fc.bias"), (std::vector<std::int64_t>{24}));
  EXPECT_EQ(shape("attn.c_attn.weight"), (std::vector<std::int64_t>{8, 24}));
  c.conv1d = c.bias = false;
  EXPECT_EQ(shape("mlp.c_fc.weight"), (std::vector<std::int64_t>{24, 8}));
  EXPECT_EQ(shape("mlp.c_fc.bias"), (std::vector<std::int64_t>{}));
}

TEST(Gpt2, RefusesWhatItCannotCompute) {
  const Json good{{"model_type", "gpt2"}, {"vocab_size", 16}, {"n_positions", 8},
                  {"n_embd", 8},          {"n_layer", 1},     {"n_head", 2}};
  EXPECT_EQ(gpt2_from_json(good, "x").inner_size(), 32);
  for (const Json& change :
       {Json{{"add_cross_attention", true}}, Json{{"activation_function", "relu"}},
        Json{{"n_head", 3}}, Json{{"n_layer", 0}}, Json{{"n_embd", -8}},
        Json{{"n_inner", std::int64_t{1} << 40}}, Json{{"layer_norm_epsilon", 0}},
        Json{{"n_positions", "8"}}, Json{{"vocab_size", 1.5}}, Json{{"conv1d", 1}},
        Json{{"model_type", "gptj"}}}) {
    Json config = good;
    config.update(change);
    EXPECT_THROW(gpt2_from_json(config, "x"), Error) << change;
  }
}

TEST(Gpt2, KnowsItsTensorsByAnyName) {
  EXPECT_EQ(gpt2_canonical_name("h.0.attn.c_attn.bias"), "transformer.h.0.attn.c_attn.bias");
  EXPECT_EQ(gpt2_canonical_name("transformer.h.0.attn.bias"), "");
  EXPECT_EQ(gpt2_canonical_name("h.11.attn.masked_bias"), "");
  EXPECT_EQ(gpt2_canonical_name("_orig_mod.transformer.wte.weight"), "transformer.wte.weight");
  EXPECT_EQ(gpt2_canonical_name("module._orig_mod.lm_head.weight"), "lm_head.weight");
}

}  // namespace
}  // namespace cresco::families
