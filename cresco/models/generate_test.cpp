#include "cresco/models/generate.h"

#include "cresco/base/require.h"
#include "cresco/models/initialise.h"
#include "cresco/models/neox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

namespace cresco::models {
namespace {

// A model whose next token is always (last + 1) mod 8, whatever else stands before: one-hot
// embeddings, a readout shifted by one, and layers that add nothing.
Neox successor_model() {
  families::NeoxConfig c;
  c.vocab_size = c.hidden_size = 8;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 1;
  c.intermediate_size = 8;
  c.max_position_embeddings = 4;
  auto weights = initialise(c, "small_wang", 0);
  for (auto& [name, tensor] : weights) {
    if (name.find("layers") != std::string::npos) tensor.zero_();
    if (name == "gpt_neox.embed_in.weight") tensor.copy_(at::eye(8));
    if (name == "embed_out.weight") tensor.copy_(at::eye(8).roll(1, 0) * 3);
  }
  return Neox(c, weights);
}

TEST(Generate, FollowsTheModelPastItsContext) {
  const Neox model = successor_model();
  EXPECT_EQ(generate(model, {5}, {.max_new_tokens = 7}, 0, {}),
            (std::vector<std::int32_t>{6, 7, 0, 1, 2, 3, 4}));
  EXPECT_EQ(generate(model, {5}, {.max_new_tokens = 7}, 0, 0), (std::vector<std::int32_t>{6, 7}));
  EXPECT_THROW(generate(model, {}, {}, 0, {}), UsageError);
}

TEST(Generate, SamplesBySeedAndKeepsToTopK) {
  const Neox model = successor_model();
  const GenerateConfig hot{.max_new_tokens = 200, .temperature = 10},
      narrow{.max_new_tokens = 200, .top_k = 1, .temperature = 10};
  EXPECT_EQ(generate(model, {5}, hot, 1, {}), generate(model, {5}, hot, 1, {}));
  EXPECT_NE(generate(model, {5}, hot, 1, {}), generate(model, {5}, hot, 2, {}));
  std::map<std::int32_t, int> count;
  for (const auto id : generate(model, {5}, hot, 1, {})) ++count[id];
  EXPECT_EQ(count.size(), 8u);
  EXPECT_EQ(generate(model, {5}, narrow, 1, {})[7], 5);
}

}  // namespace
}  // namespace cresco::models
