// GPT-NeoX (Pythia) as Hugging Face's GPTNeoXForCausalLM stores it.
#pragma once

#include "cresco/families/families.h"
#include "cresco/families/family.h"

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

namespace cresco::families {

// Field names are those of Hugging Face's config.json; the defaults are Pythia's.
struct NeoxConfig {
  std::int64_t vocab_size = 50304, hidden_size = 512, num_hidden_layers = 6,
               num_attention_heads = 8;
  std::int64_t intermediate_size = 2048, max_position_embeddings = 2048;
  double rotary_pct = 0.25, rotary_emb_base = 10000, layer_norm_eps = 1e-5;
  bool use_parallel_residual = true, tie_word_embeddings = false, attention_bias = true;
  std::string hidden_act = "gelu";

  void fields(FieldVisitor& v) {
    v.field("vocab_size", vocab_size, "rows of the embeddings; 0 is the tokenizer's size");
    v.field("hidden_size", hidden_size, "model width");
    v.field("num_hidden_layers", num_hidden_layers, "layers");
    v.field("num_attention_heads", num_attention_heads, "attention heads");
    v.field("intermediate_size", intermediate_size, "width inside the MLP");
    v.field("max_position_embeddings", max_position_embeddings, "longest context", "tokens");
    v.field("rotary_pct", rotary_pct, "share of each head's dimensions that are rotated");
    v.field("rotary_emb_base", rotary_emb_base, "base of the rotary angles");
    v.field("layer_norm_eps", layer_norm_eps, "added to the variance in layer norms");
    v.field("use_parallel_residual", use_parallel_residual,
            "attention and MLP read the same residual");
    v.field("tie_word_embeddings", tie_word_embeddings, "the readout is the input embedding");
    v.field("attention_bias", attention_bias, "biases in the attention's linear maps");
    v.field("hidden_act", hidden_act,
            "gelu (erf) | gelu_new | gelu_fast | gelu_pytorch_tanh (tanh form)");
  }

  std::int64_t head_size() const { return hidden_size / num_attention_heads; }
  std::int64_t rotary_size() const {
    return static_cast<std::int64_t>(static_cast<double>(head_size()) * rotary_pct);
  }
};

// Error that names the field and both numbers when sizes don't fit each other.
void check(const NeoxConfig& config, const std::string& where);

// From a config.json of any generation: the rotary fields are read as `rotary_pct` +
// `rotary_emb_base`, as `partial_rotary_factor` + `rope_theta`, or inside `rope_parameters`; a
// rotary scaling other than "default" is refused.
NeoxConfig neox_from_json(const Json& config, const std::string& where);
// As Hugging Face writes it; `dtype` is its name of the type ("float32").
Json neox_to_json(const NeoxConfig& config, const std::string& dtype,
                  std::optional<std::int64_t> end_of_text);

// Every parameter, in the order of the forward pass.
std::vector<TensorSpec> neox_tensors(const NeoxConfig& config);
MatrixNames neox_matrices(const NeoxConfig& config);
// The same by mathematical names: queries, keys and values are cut out of the one matrix whose rows
// are [q | k | v] of head 0, then of head 1, ...
std::vector<MatrixPart> neox_parts(const NeoxConfig& config);

// The name under which neox_tensors() lists a tensor of a file: with the `gpt_neox.` prefix, the
// head as `embed_out.weight` (also where the model is tied and the list has none); empty for the
// buffers that old files carry (masks, inverse frequencies).
std::string neox_canonical_name(const std::string& name);

const Family& neox_family();

}  // namespace cresco::families
