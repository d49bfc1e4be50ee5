#include "cresco/families/family.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>

namespace cresco::families {
namespace {

// One config a family, and those of its options that change the list of tensors.
std::vector<Json> configs() {
  const Json neox{{"model_type", "gpt_neox"}, {"vocab_size", 20},         {"hidden_size", 12},
                  {"num_hidden_layers", 2},   {"num_attention_heads", 3}, {"intermediate_size", 10},
                  {"rotary_pct", 0.5}};
  const Json olmo2{{"model_type", "olmo2"},    {"vocab_size", 20},
                   {"hidden_size", 16},        {"num_hidden_layers", 2},
                   {"num_attention_heads", 4}, {"intermediate_size", 10},
                   {"num_key_value_heads", 2}, {"head_dim", 6}};
  const Json gpt2{{"model_type", "gpt2"}, {"vocab_size", 20}, {"n_positions", 7}, {"n_embd", 12},
                  {"n_layer", 2},         {"n_head", 3},      {"n_inner", 10}};
  std::vector<Json> all{neox, olmo2, gpt2};
  const auto add = [&](Json config, const Json& change) {
    config.update(change);
    all.push_back(config);
  };
  add(neox, {{"tie_word_embeddings", true}, {"attention_bias", false}});
  add(olmo2, {{"tie_word_embeddings", true}, {"attention_bias", true}});
  add(gpt2, {{"tie_word_embeddings", false}});
  add(gpt2, {{"conv1d", false}, {"bias", false}});
  return all;
}

TEST(Family, IsFoundByItsType) {
  EXPECT_EQ(find_family(Json{{"model_type", "olmo2"}})->model_type(), "olmo2");
  for (const Json& config : {Json{{"model_type", "llama"}}, Json{{"model_type", 3}}, Json::object(),
                             Json::array(), Json()}) {
    EXPECT_EQ(find_family(config), nullptr);
    EXPECT_THROW(family_of(config, "config.json"), Error);
  }
}

TEST(Family, KnowsItsTensorsWithAndWithoutPrefix) {
  for (const Json& config : configs()) {
    const Family& family = family_of(config, "config.json");
    for (const TensorSpec& spec : family.tensors(config, "config.json")) {
      EXPECT_EQ(family.canonical_name(spec.name), spec.name);
      EXPECT_EQ(family.canonical_name("module." + spec.name), spec.name);
      if (spec.name == "lm_head.weight" || spec.name == "embed_out.weight") continue;
      const std::string bare = spec.name.substr(spec.name.find('.') + 1);
      EXPECT_EQ(family.canonical_name(bare), spec.name);
    }
  }
}

// Every row of every parameter belongs to exactly one part; a tied readout shares its rows with the
// input embedding.
TEST(Family, CutsEveryParameterIntoParts) {
  for (const Json& config : configs()) {
    const Family& family = family_of(config, "config.json");
    std::map<std::string, std::vector<int>> rows_seen;
    std::map<std::string, std::vector<std::int64_t>> shapes;
    for (const TensorSpec& spec : family.tensors(config, "config.json"))
      shapes[spec.name] = spec.shape;
    std::set<std::string> names;
    for (const MatrixPart& part : family.matrices(config, "config.json")) {
      EXPECT_TRUE(names.insert(part.name).second) << part.name;
      ASSERT_TRUE(shapes.contains(part.tensor)) << part.tensor;
      if (part.name == "W_U" && family.is_tied(config, "config.json")) {
        EXPECT_TRUE(rows_seen.contains(part.tensor));
        continue;
      }
      const std::vector<std::int64_t>& shape = shapes[part.tensor];
      const auto out = static_cast<std::size_t>(part.transposed ? shape.at(1) : shape.at(0));
      std::vector<int>& seen = rows_seen[part.tensor];
      seen.resize(out);
      const auto rows = part.rows.empty()
                            ? std::vector<RowRange>{{0, static_cast<std::int64_t>(out)}}
                            : part.rows;
      for (const RowRange& range : rows) {
        ASSERT_LE(0, range.begin);
        ASSERT_LT(range.begin, range.end);
        ASSERT_LE(static_cast<std::size_t>(range.end), out) << part.name;
        for (std::int64_t row = range.begin; row < range.end; ++row)
          ++seen[static_cast<std::size_t>(row)];
      }
    }
    EXPECT_EQ(rows_seen.size(), shapes.size());
    for (const auto& [tensor, seen] : rows_seen)
      for (const int times : seen) EXPECT_EQ(times, 1) << tensor;
  }
}

// The sizes that attention() states are those of the parts.
TEST(Family, CutsHeadsOfTheStatedSize) {
  for (const Json& config : configs()) {
    const Family& family = family_of(config, "config.json");
    const AttentionSizes sizes = family.attention(config, "config.json");
    std::map<std::string, std::vector<std::int64_t>> shapes;
    for (const TensorSpec& spec : family.tensors(config, "config.json"))
      shapes[spec.name] = spec.shape;
    std::int64_t seen = 0;
    for (const MatrixPart& part : family.matrices(config, "config.json")) {
      const std::string kind = part.name.substr(0, part.name.find('.'));
      if (kind != "W_Q" && kind != "W_K" && kind != "W_V") continue;
      std::int64_t rows = part.rows.empty() ? shapes[part.tensor][part.transposed ? 1 : 0] : 0;
      for (const RowRange& range : part.rows) rows += range.end - range.begin;
      EXPECT_EQ(rows, (kind == "W_Q" ? sizes.heads : sizes.key_value_heads) * sizes.head_size);
      ++seen;
    }
    EXPECT_EQ(seen, 3 * sizes.layers);
  }
}

}  // namespace
}  // namespace cresco::families
