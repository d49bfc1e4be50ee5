// A recipe's model, of any family that can be trained.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/families/gpt2.h"
#include "cresco/families/neox.h"
#include "cresco/models/language_model.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cresco::pretrain {

struct ModelConfig {
  std::string family = "neox";
  families::NeoxConfig neox;
  families::Gpt2Config gpt2;

  // Those of the family: `family` has to be read before the others.
  void fields(FieldVisitor& v) {
    v.field("family", family, "neox | gpt2, each with the fields of its config.json");
    if (is_gpt2())
      gpt2.fields(v);
    else
      neox.fields(v);
  }

  bool is_gpt2() const { return family == "gpt2"; }
  std::int64_t& vocab_size() { return is_gpt2() ? gpt2.vocab_size : neox.vocab_size; }
  std::int64_t vocab_size() const { return is_gpt2() ? gpt2.vocab_size : neox.vocab_size; }
  std::int64_t max_context() const {
    return is_gpt2() ? gpt2.n_positions : neox.max_position_embeddings;
  }
  std::int64_t width() const { return is_gpt2() ? gpt2.n_embd : neox.hidden_size; }
  std::int64_t num_layers() const { return is_gpt2() ? gpt2.n_layer : neox.num_hidden_layers; }
  bool is_tied() const { return is_gpt2() ? gpt2.tie_word_embeddings : neox.tie_word_embeddings; }

  std::vector<families::TensorSpec> tensors() const;
  // config.json as transformers writes it; `dtype` is its name of the type ("float32").
  Json to_json(const std::string& dtype, std::optional<std::int64_t> end_of_text) const;
};

// A snapshot's config.json by the fields of this model's family, as to_json() writes them. Error
// for another family.
Json architecture_of(const Json& config, const ModelConfig& model, const std::string& where);

// UsageError that names the field.
void check(const ModelConfig& config);

std::vector<tensor::NamedTensor> initialise(const ModelConfig& config, const std::string& name,
                                            std::uint64_t seed);
std::unique_ptr<models::LanguageModel> make_model(const ModelConfig& config,
                                                  std::vector<tensor::NamedTensor> weights,
                                                  bool checkpoints_activations);

}  // namespace cresco::pretrain
