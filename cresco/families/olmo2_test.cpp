#include "cresco/families/olmo2.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco::families {
namespace {

Olmo2Config olmo2(std::int64_t layers, std::int64_t width, std::int64_t heads,
                  std::int64_t key_value_heads, std::int64_t inner) {
  Olmo2Config c;
  c.vocab_size = 100352;
  c.num_hidden_layers = layers;
  c.hidden_size = width;
  c.num_attention_heads = heads;
  c.num_key_value_heads = key_value_heads;
  c.intermediate_size = inner;
  return c;
}

// A layer of the 1B: four d x d maps, three d x ff, the two norms of the residual and those of
// queries and keys: 4 * 2048^2 + 3 * 2048 * 8192 + 4 * 2048 = 67,117,056. All:
// 16 * 67,117,056 + 2048 + 2 * 100352 * 2048 = 1,484,916,736.
// 7B: 32 * (4 * 4096^2 + 3 * 4096 * 11008 + 4 * 4096) + 4096 + 2 * 100352 * 4096.
// 32B: keys and values of 8 heads, 1024 wide: 64 * (2 * 5120^2 + 2 * 5120 * 1024
//      + 3 * 5120 * 27648 + 3 * 5120 + 1024) + 5120 + 2 * 100352 * 5120.
TEST(Olmo2, CountsItsParameters) {
  const auto count = [](const Olmo2Config& c) { return num_parameters(olmo2_tensors(c)); };
  EXPECT_EQ(count(olmo2(16, 2048, 16, 16, 8192)), 1'484'916'736);
  EXPECT_EQ(count(olmo2(32, 4096, 32, 0, 11008)), 7'298'617'344);
  EXPECT_EQ(count(olmo2(64, 5120, 40, 8, 27648)), 32'234'279'936);
  Olmo2Config tied = olmo2(16, 2048, 16, 16, 8192);
  tied.tie_word_embeddings = true;
  EXPECT_EQ(count(tied), 1'484'916'736 - 100352 * 2048);
}

Json small() {
  return {{"model_type", "olmo2"},    {"vocab_size", 10},         {"hidden_size", 64},
          {"num_hidden_layers", 1},   {"num_attention_heads", 4}, {"intermediate_size", 8},
          {"num_key_value_heads", 2}, {"head_dim", nullptr}};
}

TEST(Olmo2, ReadsEveryGenerationOfRotaryFields) {
  Json old = small(), newest = small();
  old.update({{"rope_theta", 500000}, {"rope_scaling", nullptr}});
  newest["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  for (const Json& config : {old, newest}) {
    const Olmo2Config c = olmo2_from_json(config, "config.json");
    EXPECT_EQ(c.rope_theta, 500000);
    EXPECT_EQ(c.head_size(), 16);
    EXPECT_EQ(c.key_value_width(), 32);
  }
}

TEST(Olmo2, RefusesWhatItCannotCompute) {
  for (const Json& change :
       {Json{{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}},
        Json{{"rope_parameters", {{"rope_type", "yarn"}}}},
        Json{{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}, Json{{"rope_parameters", 3}},
        Json{{"num_key_value_heads", 3}}, Json{{"num_key_value_heads", -2}}, Json{{"head_dim", 7}},
        Json{{"head_dim", 1 << 20}}, Json{{"hidden_size", 65}},
        Json{{"num_attention_heads", std::int64_t{1} << 40}}, Json{{"hidden_act", "gelu"}},
        Json{{"rope_theta", 0}}, Json{{"rms_norm_eps", "small"}}, Json{{"model_type", "olmo"}}}) {
    Json config = small();
    config.update(change);
    EXPECT_THROW(olmo2_from_json(config, "config.json"), Error) << change;
  }
}

TEST(Olmo2, KnowsItsTensorsByAnyName) {
  EXPECT_EQ(olmo2_canonical_name("layers.0.self_attn.q_norm.weight"),
            "model.layers.0.self_attn.q_norm.weight");
  EXPECT_EQ(olmo2_canonical_name("model.layers.0.self_attn.rotary_emb.inv_freq"), "");
  EXPECT_EQ(olmo2_canonical_name("module.lm_head.weight"), "lm_head.weight");
}

}  // namespace
}  // namespace cresco::families
