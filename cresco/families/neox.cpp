#include "cresco/families/neox.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/families/config_json.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace cresco::families {

void check(const NeoxConfig& c, const std::string& where) {
  check_size("vocab_size", c.vocab_size, kMaxRows, where);
  check_size("hidden_size", c.hidden_size, kMaxWidth, where);
  check_size("num_attention_heads", c.num_attention_heads, kMaxWidth, where);
  check_size("intermediate_size", c.intermediate_size, kMaxInner, where);
  check_size("max_position_embeddings", c.max_position_embeddings, kMaxRows, where);
  check_layers("num_hidden_layers", c.num_hidden_layers, c.num_attention_heads, where);
  require(c.hidden_size % c.num_attention_heads == 0,
          "{}: hidden_size {} is not divisible by num_attention_heads {}", where, c.hidden_size,
          c.num_attention_heads);
  require(c.rotary_pct >= 0 && c.rotary_pct <= 1, "{}: rotary_pct is {}, expected 0 to 1", where,
          c.rotary_pct);
  require(c.rotary_size() % 2 == 0,
          "{}: rotary_pct {} of {} dimensions a head rotates {}, an odd number", where,
          c.rotary_pct, c.head_size(), c.rotary_size());
  require(c.rotary_emb_base > 0 && std::isfinite(c.rotary_emb_base), "{}: rotary_emb_base is {}",
          where, c.rotary_emb_base);
  check_epsilon("layer_norm_eps", c.layer_norm_eps, where);
  check_gelu("hidden_act", c.hidden_act, where);
}

namespace {

bool is_number(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_number();
}

}  // namespace

NeoxConfig neox_from_json(const Json& config, const std::string& where) {
  check_config(config, "gpt_neox",
               {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                "intermediate_size"},
               where);
  NeoxConfig c;
  take_fields([&](FieldVisitor& v) { c.fields(v); }, config, where);
  for (const auto& [old, later] : {std::pair("rotary_emb_base", "rope_theta"),
                                   std::pair("rotary_pct", "partial_rotary_factor")})
    if (is_number(config, old) && is_number(config, later))
      require(config[old] == config[later],
              "{}: '{}' is {}, '{}' is {}: versions of transformers disagree about which counts",
              where, old, to_line(config[old]), later, to_line(config[later]));
  take_rope(config, where, c.rotary_emb_base, c.rotary_pct);
  check(c, where);
  return c;
}

Json neox_to_json(const NeoxConfig& c, const std::string& dtype,
                  std::optional<std::int64_t> end_of_text) {
  Json out;
  out["architectures"] = {"GPTNeoXForCausalLM"};
  out["model_type"] = "gpt_neox";
  out["vocab_size"] = c.vocab_size;
  out["hidden_size"] = c.hidden_size;
  out["num_hidden_layers"] = c.num_hidden_layers;
  out["num_attention_heads"] = c.num_attention_heads;
  out["intermediate_size"] = c.intermediate_size;
  out["max_position_embeddings"] = c.max_position_embeddings;
  out["hidden_act"] = c.hidden_act;
  out["rotary_pct"] = c.rotary_pct;
  out["rotary_emb_base"] = c.rotary_emb_base;
  // The same again under the names that newer versions of transformers read.
  out["partial_rotary_factor"] = c.rotary_pct;
  out["rope_theta"] = c.rotary_emb_base;
  out["layer_norm_eps"] = c.layer_norm_eps;
  out["use_parallel_residual"] = c.use_parallel_residual;
  out["tie_word_embeddings"] = c.tie_word_embeddings;
  out["attention_bias"] = c.attention_bias;
  out["attention_dropout"] = 0.0;
  out["hidden_dropout"] = 0.0;
  if (end_of_text) out["bos_token_id"] = out["eos_token_id"] = *end_of_text;
  out["torch_dtype"] = dtype;
  return out;
}

std::vector<TensorSpec> neox_tensors(const NeoxConfig& c) {
  const std::int64_t d = c.hidden_size, ff = c.intermediate_size, V = c.vocab_size;
  std::vector<TensorSpec> tensors{{"gpt_neox.embed_in.weight", {V, d}}};
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
    tensors.push_back({name + ".weight", {out, in}});
    if (bias) tensors.push_back({name + ".bias", {out}});
  };
  const auto norm = [&](const std::string& name) {
    tensors.push_back({name + ".weight", {d}});
    tensors.push_back({name + ".bias", {d}});
  };
  for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", layer);
    norm(at + "input_layernorm");
    norm(at + "post_attention_layernorm");
    linear(at + "attention.query_key_value", 3 * d, d, c.attention_bias);
    linear(at + "attention.dense", d, d, c.attention_bias);
    linear(at + "mlp.dense_h_to_4h", ff, d, true);
    linear(at + "mlp.dense_4h_to_h", d, ff, true);
  }
  norm("gpt_neox.final_layer_norm");
  if (!c.tie_word_embeddings) tensors.push_back({"embed_out.weight", {V, d}});
  return tensors;
}

MatrixNames neox_matrices(const NeoxConfig& c) {
  const std::string input = "gpt_neox.embed_in.weight";
  return {c.tie_word_embeddings ? input : "embed_out.weight", input};
}

std::vector<MatrixPart> neox_parts(const NeoxConfig& c) {
  const auto [readout, input_embedding] = neox_matrices(c);
  std::vector<MatrixPart> parts{{"W_E", input_embedding}};
  for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", layer);
    const auto add = [&](const char* name, const std::string& tensor,
                         const std::vector<RowRange>& rows = {}) {
      parts.push_back({fmt::format("{}.{}", name, layer), at + tensor, false, rows});
    };
    const auto linear = [&](const std::string& letter, const std::string& tensor, bool bias,
                            const std::vector<RowRange>& rows = {}) {
      add(("W_" + letter).c_str(), tensor + ".weight", rows);
      if (bias) add(("b_" + letter).c_str(), tensor + ".bias", rows);
    };
    add("ln1.w", "input_layernorm.weight");
    add("ln1.b", "input_layernorm.bias");
    add("ln2.w", "post_attention_layernorm.weight");
    add("ln2.b", "post_attention_layernorm.bias");
    for (std::int64_t which = 0; which < 3; ++which) {
      std::vector<RowRange> rows;
      for (std::int64_t head = 0; head < c.num_attention_heads; ++head)
        rows.push_back(
            {(3 * head + which) * c.head_size(), (3 * head + which + 1) * c.head_size()});
      linear(std::string(1, "QKV"[which]), "attention.query_key_value", c.attention_bias, rows);
    }
    linear("O", "attention.dense", c.attention_bias);
    linear("in", "mlp.dense_h_to_4h", true);
    linear("out", "mlp.dense_4h_to_h", true);
  }
  parts.push_back({"ln_final.w", "gpt_neox.final_layer_norm.weight"});
  parts.push_back({"ln_final.b", "gpt_neox.final_layer_norm.bias"});
  parts.push_back({"W_U", readout});
  return parts;
}

std::string neox_canonical_name(const std::string& stored) {
  const std::string name = without_wrappers(stored);
  if (name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
      name.ends_with("rotary_emb.inv_freq"))
    return "";
  if (name == "lm_head.weight") return "embed_out.weight";
  if (name == "embed_out.weight" || name.starts_with("gpt_neox.")) return name;
  return "gpt_neox." + name;
}

namespace {

class NeoxFamily : public Family {
 public:
  std::string model_type() const override { return "gpt_neox"; }
  std::string canonical_name(const std::string& name) const override {
    return neox_canonical_name(name);
  }
  std::vector<TensorSpec> tensors(const Json& config, const std::string& where) const override {
    return neox_tensors(neox_from_json(config, where));
  }
  std::vector<MatrixPart> matrices(const Json& config, const std::string& where) const override {
    return neox_parts(neox_from_json(config, where));
  }
  AttentionSizes attention(const Json& config, const std::string& where) const override {
    const NeoxConfig c = neox_from_json(config, where);
    return {c.num_hidden_layers, c.num_attention_heads, c.num_attention_heads, c.head_size()};
  }
  bool is_tied(const Json& config, const std::string& where) const override {
    return neox_from_json(config, where).tie_word_embeddings;
  }
};

}  // namespace

const Family& neox_family() {
  static const NeoxFamily family;
  return family;
}

}  // namespace cresco::families
