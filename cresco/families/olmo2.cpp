#include "cresco/families/olmo2.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/families/config_json.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace cresco::families {

void check(const Olmo2Config& c, const std::string& where) {
  check_size("vocab_size", c.vocab_size, kMaxRows, where);
  check_size("hidden_size", c.hidden_size, kMaxWidth, where);
  check_size("num_attention_heads", c.num_attention_heads, kMaxWidth, where);
  check_size("intermediate_size", c.intermediate_size, kMaxInner, where);
  check_size("max_position_embeddings", c.max_position_embeddings, kMaxRows, where);
  check_layers("num_hidden_layers", c.num_hidden_layers, c.num_attention_heads, where);
  require(c.num_key_value_heads >= 0, "{}: num_key_value_heads is {}, expected 0 or more", where,
          c.num_key_value_heads);
  require(c.num_attention_heads % c.key_value_heads() == 0,
          "{}: num_attention_heads {} is not divisible by num_key_value_heads {}", where,
          c.num_attention_heads, c.key_value_heads());
  require(c.head_dim >= 0 && c.head_dim <= kMaxWidth, "{}: head_dim is {}, expected 0 to {}", where,
          c.head_dim, kMaxWidth);
  require(c.head_dim > 0 || c.hidden_size % c.num_attention_heads == 0,
          "{}: hidden_size {} is not divisible by num_attention_heads {}", where, c.hidden_size,
          c.num_attention_heads);
  require(c.query_width() <= kMaxWidth, "{}: {} heads of head_dim {}, expected at most {} in all",
          where, c.num_attention_heads, c.head_size(), kMaxWidth);
  require(c.head_size() % 2 == 0, "{}: heads have {} dimensions, an odd number cannot be rotated",
          where, c.head_size());
  require(c.rope_theta > 0 && std::isfinite(c.rope_theta), "{}: rope_theta is {}", where,
          c.rope_theta);
  check_epsilon("rms_norm_eps", c.rms_norm_eps, where);
  require(c.hidden_act == "silu" || c.hidden_act == "swish", "{}: hidden_act '{}' is not silu",
          where, escape_for_terminal(c.hidden_act));
}

Olmo2Config olmo2_from_json(const Json& config, const std::string& where) {
  check_config(config, "olmo2",
               {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                "intermediate_size"},
               where);
  Olmo2Config c;
  take_fields([&](FieldVisitor& v) { c.fields(v); }, config, where);
  double share = 1;
  take_rope(config, where, c.rope_theta, share);
  require(share == 1, "{}: partial_rotary_factor is {}, OLMo-2 rotates whole heads", where, share);
  check(c, where);
  return c;
}

std::vector<TensorSpec> olmo2_tensors(const Olmo2Config& c) {
  const std::int64_t d = c.hidden_size, ff = c.intermediate_size;
  std::vector<TensorSpec> tensors{{"model.embed_tokens.weight", {c.vocab_size, d}}};
  for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    const auto norm = [&](const char* name, std::int64_t size) {
      tensors.push_back({fmt::format("{}{}.weight", at, name), {size}});
    };
    const auto linear = [&](const char* name, std::int64_t out, std::int64_t in, bool bias) {
      tensors.push_back({fmt::format("{}{}.weight", at, name), {out, in}});
      if (bias) tensors.push_back({fmt::format("{}{}.bias", at, name), {out}});
    };
    linear("self_attn.q_proj", c.query_width(), d, c.attention_bias);
    linear("self_attn.k_proj", c.key_value_width(), d, c.attention_bias);
    linear("self_attn.v_proj", c.key_value_width(), d, c.attention_bias);
    norm("self_attn.q_norm", c.query_width());
    norm("self_attn.k_norm", c.key_value_width());
    linear("self_attn.o_proj", d, c.query_width(), c.attention_bias);
    norm("post_attention_layernorm", d);
    linear("mlp.gate_proj", ff, d, false);
    linear("mlp.up_proj", ff, d, false);
    linear("mlp.down_proj", d, ff, false);
    norm("post_feedforward_layernorm", d);
  }
  tensors.push_back({"model.norm.weight", {d}});
  if (!c.tie_word_embeddings) tensors.push_back({"lm_head.weight", {c.vocab_size, d}});
  return tensors;
}

std::vector<MatrixPart> olmo2_parts(const Olmo2Config& c) {
  std::vector<MatrixPart> parts{{"W_E", "model.embed_tokens.weight"}};
  for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const auto add = [&](const std::string& name, const std::string& tensor) {
      parts.push_back(
          {fmt::format("{}.{}", name, layer), fmt::format("model.layers.{}.{}", layer, tensor)});
    };
    const auto attention = [&](const std::string& letter, const std::string& tensor) {
      add("W_" + letter, tensor + ".weight");
      if (c.attention_bias) add("b_" + letter, tensor + ".bias");
    };
    attention("Q", "self_attn.q_proj");
    attention("K", "self_attn.k_proj");
    attention("V", "self_attn.v_proj");
    add("q_norm", "self_attn.q_norm.weight");
    add("k_norm", "self_attn.k_norm.weight");
    attention("O", "self_attn.o_proj");
    add("ln1.w", "post_attention_layernorm.weight");
    add("W_gate", "mlp.gate_proj.weight");
    add("W_in", "mlp.up_proj.weight");
    add("W_out", "mlp.down_proj.weight");
    add("ln2.w", "post_feedforward_layernorm.weight");
  }
  parts.push_back({"ln_final.w", "model.norm.weight"});
  parts.push_back({"W_U", c.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"});
  return parts;
}

std::string olmo2_canonical_name(const std::string& stored) {
  const std::string name = without_wrappers(stored);
  if (name.ends_with("rotary_emb.inv_freq")) return "";
  if (name == "lm_head.weight" || name.starts_with("model.")) return name;
  return "model." + name;
}

namespace {

class Olmo2Family : public Family {
 public:
  std::string model_type() const override { return "olmo2"; }
  std::string canonical_name(const std::string& name) const override {
    return olmo2_canonical_name(name);
  }
  std::vector<TensorSpec> tensors(const Json& config, const std::string& where) const override {
    return olmo2_tensors(olmo2_from_json(config, where));
  }
  std::vector<MatrixPart> matrices(const Json& config, const std::string& where) const override {
    return olmo2_parts(olmo2_from_json(config, where));
  }
  AttentionSizes attention(const Json& config, const std::string& where) const override {
    const Olmo2Config c = olmo2_from_json(config, where);
    return {c.num_hidden_layers, c.num_attention_heads, c.key_value_heads(), c.head_size()};
  }
  bool is_tied(const Json& config, const std::string& where) const override {
    return olmo2_from_json(config, where).tie_word_embeddings;
  }
};

}  // namespace

const Family& olmo2_family() {
  static const Olmo2Family family;
  return family;
}

}  // namespace cresco::families
