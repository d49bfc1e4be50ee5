// GPT-2 as Hugging Face's GPT2LMHeadModel stores it, and as nanoGPT and llm.c do.
#pragma once

#include "cresco/families/families.h"
#include "cresco/families/family.h"

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <vector>

namespace cresco::families {

// Field names are those of Hugging Face's config.json; the defaults are GPT-2's. Two fields are our
// own, for files of other programs: no shape tells a square matrix from its transpose, so what
// opens the file has to say which it is.
struct Gpt2Config {
  std::int64_t vocab_size = 50257, n_positions = 1024, n_embd = 768, n_layer = 12, n_head = 12;
  std::int64_t n_inner = 0;
  double layer_norm_epsilon = 1e-5;
  std::string activation_function = "gelu_new";
  bool scale_attn_weights = true, scale_attn_by_inverse_layer_idx = false,
       reorder_and_upcast_attn = false, add_cross_attention = false, tie_word_embeddings = true;
  bool conv1d = true, bias = true;

  void fields(FieldVisitor& v) {
    v.field("vocab_size", vocab_size, "rows of the embeddings");
    v.field("n_positions", n_positions, "longest context", "tokens");
    v.field("n_embd", n_embd, "model width");
    v.field("n_layer", n_layer, "layers");
    v.field("n_head", n_head, "attention heads");
    v.field("n_inner", n_inner, "width inside the MLP; 0 is 4 n_embd");
    v.field("layer_norm_epsilon", layer_norm_epsilon, "added to the variance in layer norms");
    v.field("activation_function", activation_function,
            "gelu (erf) | gelu_new | gelu_fast | gelu_pytorch_tanh (tanh form)");
    v.field("scale_attn_weights", scale_attn_weights, "scores are divided by sqrt(head size)");
    v.field("scale_attn_by_inverse_layer_idx", scale_attn_by_inverse_layer_idx,
            "scores of layer l, counted from 1, are divided by l");
    v.field("reorder_and_upcast_attn", reorder_and_upcast_attn,
            "changes nothing: scores are never computed in less than float32");
    v.field("add_cross_attention", add_cross_attention, "not supported");
    v.field("tie_word_embeddings", tie_word_embeddings, "the readout is the input embedding");
    v.field("conv1d", conv1d, "matrices are stored (in, out); nanoGPT and llm.c store (out, in)");
    v.field("bias", bias, "biases in linear maps and norms");
  }

  std::int64_t head_size() const { return n_embd / n_head; }
  std::int64_t inner_size() const { return n_inner > 0 ? n_inner : 4 * n_embd; }
};

// Error that names the field and both numbers when sizes don't fit each other.
void check(const Gpt2Config& config, const std::string& where);

Gpt2Config gpt2_from_json(const Json& config, const std::string& where);

// As Hugging Face writes it; `dtype` is its name of the type ("float32").
Json gpt2_to_json(const Gpt2Config& config, const std::string& dtype,
                  std::optional<std::int64_t> end_of_text);

// A config.json for weights in other programs' files; `where` names the file in errors.
// nanoGPT: the `model_args` of a checkpoint. Its GELU is the erf form, as in its newest version.
Json gpt2_config_from_nanogpt(const Json& model_args, const std::string& where);
// llm.c: the numbers of the header; the vocabulary is its own, without the padded rows of the
// embedding. Its GELU is the tanh form.
Json gpt2_config_from_llmc(std::int64_t max_seq_len, std::int64_t vocab_size, std::int64_t layers,
                           std::int64_t heads, std::int64_t channels);

// Every parameter, in the order of the forward pass. A tied model's list has no `lm_head.weight`.
std::vector<TensorSpec> gpt2_tensors(const Gpt2Config& config);
// By mathematical names: queries, keys and values are three blocks of the one matrix.
std::vector<MatrixPart> gpt2_parts(const Gpt2Config& config);

// The name under which gpt2_tensors() lists a tensor of a file: with the `transformer.` prefix, the
// head as `lm_head.weight` (also where the model is tied: what is stored twice can be compared);
// empty for the masks that old files carry.
std::string gpt2_canonical_name(const std::string& name);

const Family& gpt2_family();

}  // namespace cresco::families
