#include "cresco/families/neox.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace cresco::families {

void check(const NeoxConfig& c, const std::string& where) {
  const std::pair<const char*, std::int64_t> sizes[] = {
      {"vocab_size", c.vocab_size},
      {"hidden_size", c.hidden_size},
      {"num_hidden_layers", c.num_hidden_layers},
      {"num_attention_heads", c.num_attention_heads},
      {"intermediate_size", c.intermediate_size},
      {"max_position_embeddings", c.max_position_embeddings}};
  for (const auto& [name, size] : sizes)
    require(size > 0 && size <= (std::int64_t{1} << 31), "{}: {} is {}, expected 1 to 2^31", where,
            name, size);
  require(c.num_hidden_layers <= 100'000, "{}: num_hidden_layers is {}, expected at most 100,000",
          where, c.num_hidden_layers);
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
  require(c.layer_norm_eps > 0 && c.layer_norm_eps < 1, "{}: layer_norm_eps is {}", where,
          c.layer_norm_eps);
  const std::vector<std::string> known{"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"};
  require(std::find(known.begin(), known.end(), c.hidden_act) != known.end(),
          "{}: hidden_act '{}' is not one of {}", where, c.hidden_act, join(known, ", "));
}

namespace {

template <class Value>
void take(const Json& object, const char* key, Value& value, const std::string& where) {
  if (!object.contains(key) || object[key].is_null()) return;
  const Json& found = object[key];
  bool fits = false;
  if constexpr (std::is_same_v<Value, bool>)
    fits = found.is_boolean();
  else if constexpr (std::is_same_v<Value, double>)
    fits = found.is_number();
  else if constexpr (std::is_same_v<Value, std::string>)
    fits = found.is_string();
  else
    fits = found.is_number_integer();
  require(fits, "{}: '{}' is {}, of an unexpected type", where, key, to_line(found));
  value = found.get<Value>();
}

void take_rope(const Json& object, const std::string& where, NeoxConfig& c) {
  take(object, "rope_theta", c.rotary_emb_base, where);
  take(object, "partial_rotary_factor", c.rotary_pct, where);
  std::string type = "default";
  take(object, "rope_type", type, where);
  take(object, "type", type, where);
  require(type == "default", "{}: rotary scaling '{}' is not supported, only 'default'", where,
          escape_for_terminal(type));
}

}  // namespace

NeoxConfig neox_from_json(const Json& config, const std::string& where) {
  require(config.is_object(), "{}: is not a JSON object", where);
  std::string type = "gpt_neox";
  take(config, "model_type", type, where);
  require(type == "gpt_neox", "{}: model_type is '{}', expected 'gpt_neox'", where,
          escape_for_terminal(type));
  NeoxConfig c;
  c.vocab_size = get_int(config, "vocab_size", where);
  c.hidden_size = get_int(config, "hidden_size", where);
  c.num_hidden_layers = get_int(config, "num_hidden_layers", where);
  c.num_attention_heads = get_int(config, "num_attention_heads", where);
  c.intermediate_size = get_int(config, "intermediate_size", where);
  take(config, "max_position_embeddings", c.max_position_embeddings, where);
  take(config, "rotary_pct", c.rotary_pct, where);
  take(config, "rotary_emb_base", c.rotary_emb_base, where);
  take(config, "rope_theta", c.rotary_emb_base, where);
  take(config, "partial_rotary_factor", c.rotary_pct, where);
  for (const char* nested : {"rope_scaling", "rope_parameters"})
    if (config.contains(nested) && config[nested].is_object())
      take_rope(config[nested], where + ": " + nested, c);
  take(config, "layer_norm_eps", c.layer_norm_eps, where);
  take(config, "use_parallel_residual", c.use_parallel_residual, where);
  take(config, "tie_word_embeddings", c.tie_word_embeddings, where);
  take(config, "attention_bias", c.attention_bias, where);
  take(config, "hidden_act", c.hidden_act, where);
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

std::string neox_canonical_name(const std::string& name) {
  if (name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
      name.ends_with("rotary_emb.inv_freq"))
    return "";
  if (name == "lm_head.weight") return "embed_out.weight";
  if (name == "embed_out.weight" || name.starts_with("gpt_neox.")) return name;
  return "gpt_neox." + name;
}

std::int64_t num_parameters(const std::vector<TensorSpec>& tensors) {
  std::int64_t total = 0;
  for (const TensorSpec& tensor : tensors) {
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.shape) count *= size;
    total += count;
  }
  return total;
}

}  // namespace cresco::families
