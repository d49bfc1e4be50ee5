// OLMo-2 as Hugging Face's Olmo2ForCausalLM stores it.
#pragma once

#include "cresco/families/families.h"
#include "cresco/families/family.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace cresco::families {

// Field names are those of Hugging Face's config.json; the defaults are what transformers takes for
// a field that a file leaves out (the published models name theirs: rope_theta 500000, eps 1e-6).
struct Olmo2Config {
  std::int64_t vocab_size = 50304, hidden_size = 4096, num_hidden_layers = 32,
               num_attention_heads = 32, num_key_value_heads = 0, head_dim = 0;
  std::int64_t intermediate_size = 11008, max_position_embeddings = 2048;
  double rope_theta = 10000, rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false, attention_bias = false;
  std::string hidden_act = "silu";

  void fields(FieldVisitor& v) {
    v.field("vocab_size", vocab_size, "rows of the embeddings");
    v.field("hidden_size", hidden_size, "model width");
    v.field("num_hidden_layers", num_hidden_layers, "layers");
    v.field("num_attention_heads", num_attention_heads, "heads of the queries");
    v.field("num_key_value_heads", num_key_value_heads,
            "heads of keys and values, each read by a group of queries; 0 is one for each");
    v.field("head_dim", head_dim, "dimensions of a head; 0 is hidden_size / num_attention_heads");
    v.field("intermediate_size", intermediate_size, "width inside the MLP");
    v.field("max_position_embeddings", max_position_embeddings, "longest context", "tokens");
    v.field("rope_theta", rope_theta, "base of the rotary angles");
    v.field("rms_norm_eps", rms_norm_eps, "added to the mean square in norms");
    v.field("tie_word_embeddings", tie_word_embeddings, "the readout is the input embedding");
    v.field("attention_bias", attention_bias, "biases in the attention's linear maps");
    v.field("hidden_act", hidden_act, "silu");
  }

  std::int64_t head_size() const {
    return head_dim > 0 ? head_dim : hidden_size / num_attention_heads;
  }
  std::int64_t key_value_heads() const {
    return num_key_value_heads > 0 ? num_key_value_heads : num_attention_heads;
  }
  std::int64_t query_width() const { return num_attention_heads * head_size(); }
  std::int64_t key_value_width() const { return key_value_heads() * head_size(); }
};

// Error that names the field and both numbers when sizes don't fit each other.
void check(const Olmo2Config& config, const std::string& where);

// The rotary fields are read as `rope_theta` or inside `rope_parameters`; a rotary scaling, or a
// head that is rotated in part, is refused.
Olmo2Config olmo2_from_json(const Json& config, const std::string& where);

// Every parameter, in the order of the forward pass; the norms are listed where they stand in it,
// after what they norm.
std::vector<TensorSpec> olmo2_tensors(const Olmo2Config& config);
// By mathematical names: ln1 norms what attention adds, ln2 what the MLP adds.
std::vector<MatrixPart> olmo2_parts(const Olmo2Config& config);

// The name under which olmo2_tensors() lists a tensor of a file: with the `model.` prefix, the head
// as `lm_head.weight` (also where the model is tied and the list has none); empty for tables of
// inverse frequencies.
std::string olmo2_canonical_name(const std::string& name);

const Family& olmo2_family();

}  // namespace cresco::families
