#include "cresco/families/gpt2.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/families/config_json.h"

#include <nlohmann/json.hpp>

namespace cresco::families {

void check(const Gpt2Config& c, const std::string& where) {
  check_size("vocab_size", c.vocab_size, kMaxRows, where);
  check_size("n_positions", c.n_positions, kMaxRows, where);
  check_size("n_embd", c.n_embd, kMaxWidth, where);
  check_size("n_head", c.n_head, kMaxWidth, where);
  check_layers("n_layer", c.n_layer, c.n_head, where);
  require(c.n_inner >= 0, "{}: n_inner is {}, expected 0 or more", where, c.n_inner);
  check_size("n_inner", c.inner_size(), kMaxInner, where);
  require(c.n_embd % c.n_head == 0, "{}: n_embd {} is not divisible by n_head {}", where, c.n_embd,
          c.n_head);
  check_epsilon("layer_norm_epsilon", c.layer_norm_epsilon, where);
  check_gelu("activation_function", c.activation_function, where);
  require(!c.add_cross_attention, "{}: add_cross_attention is true, which is not supported", where);
}

Gpt2Config gpt2_from_json(const Json& config, const std::string& where) {
  check_config(config, "gpt2", {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head"}, where);
  Gpt2Config c;
  take_fields([&](FieldVisitor& v) { c.fields(v); }, config, where);
  check(c, where);
  return c;
}

namespace {

Json to_json(Gpt2Config c) {
  Json out{{"architectures", {"GPT2LMHeadModel"}}, {"model_type", "gpt2"}};
  out.update(fields_to_json([&](FieldVisitor& v) { c.fields(v); }));
  if (c.n_inner == 0) out["n_inner"] = nullptr;  // as transformers writes it
  return out;
}

}  // namespace

Json gpt2_to_json(const Gpt2Config& config, const std::string& dtype,
                  std::optional<std::int64_t> end_of_text) {
  Json out = to_json(config);
  // Those of transformers are 0.1, and nothing is dropped here.
  for (const char* name : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) out[name] = 0.0;
  out["torch_dtype"] = dtype;
  if (end_of_text) out["bos_token_id"] = out["eos_token_id"] = *end_of_text;
  return out;
}

Json gpt2_config_from_nanogpt(const Json& model_args, const std::string& where) {
  require(model_args.is_object(), "{}: model_args is not an object", where);
  Gpt2Config c;
  c.vocab_size = get_int(model_args, "vocab_size", where);
  c.n_positions = get_int(model_args, "block_size", where);
  c.n_embd = get_int(model_args, "n_embd", where);
  c.n_layer = get_int(model_args, "n_layer", where);
  c.n_head = get_int(model_args, "n_head", where);
  const auto bias = model_args.find("bias");
  if (bias != model_args.end()) {
    require(bias->is_boolean(), "{}: 'bias' of model_args is not true or false", where);
    c.bias = bias->get<bool>();
  }
  c.activation_function = "gelu";
  c.conv1d = false;
  check(c, where);
  return to_json(c);
}

Json gpt2_config_from_llmc(std::int64_t max_seq_len, std::int64_t vocab_size, std::int64_t layers,
                           std::int64_t heads, std::int64_t channels) {
  Gpt2Config c;
  c.vocab_size = vocab_size;
  c.n_positions = max_seq_len;
  c.n_embd = channels;
  c.n_layer = layers;
  c.n_head = heads;
  c.conv1d = false;
  return to_json(c);
}

std::vector<TensorSpec> gpt2_tensors(const Gpt2Config& c) {
  const std::int64_t d = c.n_embd, ff = c.inner_size();
  std::vector<TensorSpec> tensors{{"transformer.wte.weight", {c.vocab_size, d}},
                                  {"transformer.wpe.weight", {c.n_positions, d}}};
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    tensors.push_back({name + ".weight", {c.conv1d ? in : out, c.conv1d ? out : in}});
    if (c.bias) tensors.push_back({name + ".bias", {out}});
  };
  const auto norm = [&](const std::string& name) {
    tensors.push_back({name + ".weight", {d}});
    if (c.bias) tensors.push_back({name + ".bias", {d}});
  };
  for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
    const std::string at = fmt::format("transformer.h.{}.", layer);
    norm(at + "ln_1");
    linear(at + "attn.c_attn", 3 * d, d);
    linear(at + "attn.c_proj", d, d);
    norm(at + "ln_2");
    linear(at + "mlp.c_fc", ff, d);
    linear(at + "mlp.c_proj", d, ff);
  }
  norm("transformer.ln_f");
  if (!c.tie_word_embeddings) tensors.push_back({"lm_head.weight", {c.vocab_size, d}});
  return tensors;
}

std::vector<MatrixPart> gpt2_parts(const Gpt2Config& c) {
  const std::int64_t d = c.n_embd;
  std::vector<MatrixPart> parts{{"W_E", "transformer.wte.weight"},
                                {"W_pos", "transformer.wpe.weight"}};
  const auto norm = [&](const std::string& name, const std::string& suffix,
                        const std::string& tensor) {
    parts.push_back({name + ".w" + suffix, tensor + ".weight"});
    if (c.bias) parts.push_back({name + ".b" + suffix, tensor + ".bias"});
  };
  for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
    const std::string at = fmt::format("transformer.h.{}.", layer);
    const std::string suffix = fmt::format(".{}", layer);
    const auto linear = [&](const std::string& letter, const std::string& tensor,
                            const std::vector<RowRange>& rows = {}) {
      parts.push_back({"W_" + letter + suffix, at + tensor + ".weight", c.conv1d, rows});
      if (c.bias) parts.push_back({"b_" + letter + suffix, at + tensor + ".bias", false, rows});
    };
    norm("ln1", suffix, at + "ln_1");
    linear("Q", "attn.c_attn", {{0, d}});
    linear("K", "attn.c_attn", {{d, 2 * d}});
    linear("V", "attn.c_attn", {{2 * d, 3 * d}});
    linear("O", "attn.c_proj");
    norm("ln2", suffix, at + "ln_2");
    linear("in", "mlp.c_fc");
    linear("out", "mlp.c_proj");
  }
  norm("ln_final", "", "transformer.ln_f");
  parts.push_back({"W_U", c.tie_word_embeddings ? "transformer.wte.weight" : "lm_head.weight"});
  return parts;
}

std::string gpt2_canonical_name(const std::string& stored) {
  const std::string name = without_wrappers(stored);
  if (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")) return "";
  if (name == "lm_head.weight" || name.starts_with("transformer.")) return name;
  return "transformer." + name;
}

namespace {

class Gpt2Family : public Family {
 public:
  std::string model_type() const override { return "gpt2"; }
  std::string canonical_name(const std::string& name) const override {
    return gpt2_canonical_name(name);
  }
  std::vector<TensorSpec> tensors(const Json& config, const std::string& where) const override {
    return gpt2_tensors(gpt2_from_json(config, where));
  }
  std::vector<MatrixPart> matrices(const Json& config, const std::string& where) const override {
    return gpt2_parts(gpt2_from_json(config, where));
  }
  AttentionSizes attention(const Json& config, const std::string& where) const override {
    const Gpt2Config c = gpt2_from_json(config, where);
    return {c.n_layer, c.n_head, c.n_head, c.head_size()};
  }
  bool is_tied(const Json& config, const std::string& where) const override {
    return gpt2_from_json(config, where).tie_word_embeddings;
  }
};

}  // namespace

const Family& gpt2_family() {
  static const Gpt2Family family;
  return family;
}

}  // namespace cresco::families
