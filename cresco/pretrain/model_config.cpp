#include "cresco/pretrain/model_config.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/models/gpt2.h"
#include "cresco/models/initialise.h"
#include "cresco/models/neox.h"

#include <nlohmann/json.hpp>

namespace cresco::pretrain {

std::vector<families::TensorSpec> ModelConfig::tensors() const {
  return is_gpt2() ? families::gpt2_tensors(gpt2) : families::neox_tensors(neox);
}

Json ModelConfig::to_json(const std::string& dtype, std::optional<std::int64_t> end_of_text) const {
  return is_gpt2() ? families::gpt2_to_json(gpt2, dtype, end_of_text)
                   : families::neox_to_json(neox, dtype, end_of_text);
}

Json architecture_of(const Json& config, const ModelConfig& model, const std::string& where) {
  return model.is_gpt2() ? families::gpt2_to_json(families::gpt2_from_json(config, where), "", {})
                         : families::neox_to_json(families::neox_from_json(config, where), "", {});
}

namespace {

// Set before another family was chosen, they would count for nothing; but a recipe leaves the
// vocabulary to the tokenizer by a 0.
template <class Config>
void require_not_set(const Config& config, const std::string& family, const char* other) {
  Config defaults;
  defaults.vocab_size = config.vocab_size;
  const auto set = field_differences(defaults, config);
  require_usage(set.empty(), "model.family is {}, and model.{} is set, a field of {}", family,
                set.empty() ? "" : set.front().path, other);
}

void require_no_fields_of_another(const ModelConfig& config) {
  if (config.is_gpt2())
    require_not_set(config.neox, config.family, "neox");
  else
    require_not_set(config.gpt2, config.family, "gpt2");
}

}  // namespace

void check(const ModelConfig& config) {
  require_usage(config.family == "neox" || config.is_gpt2(),
                "model.family '{}' is not one of neox, gpt2{}", config.family,
                did_you_mean(config.family, {"neox", "gpt2"}));
  require_no_fields_of_another(config);
  as_usage([&] {
    if (config.is_gpt2())
      families::check(config.gpt2, "model");
    else
      families::check(config.neox, "model");
  });
}

std::vector<tensor::NamedTensor> initialise(const ModelConfig& config, const std::string& name,
                                            std::uint64_t seed) {
  return config.is_gpt2() ? models::initialise(config.gpt2, name, seed)
                          : models::initialise(config.neox, name, seed);
}

std::unique_ptr<models::LanguageModel> make_model(const ModelConfig& config,
                                                  std::vector<tensor::NamedTensor> weights,
                                                  bool checkpoints_activations) {
  std::unique_ptr<models::LanguageModel> model;
  if (config.is_gpt2())
    model = std::make_unique<models::Gpt2>(config.gpt2, std::move(weights));
  else
    model = std::make_unique<models::Neox>(config.neox, std::move(weights));
  if (checkpoints_activations) model->checkpoint_activations();
  return model;
}

}  // namespace cresco::pretrain
