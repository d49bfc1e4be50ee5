#include "cresco/models/language_model.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

namespace cresco::models {

LanguageModel::LanguageModel(const std::vector<families::TensorSpec>& specs,
                             std::vector<tensor::NamedTensor> weights)
    : weights_(std::move(weights)) {
  const std::unordered_map<std::string, at::Tensor> given(weights_.begin(), weights_.end());
  for (const families::TensorSpec& spec : specs) {
    const auto found = given.find(spec.name);
    require(found != given.end(), "model: tensor '{}' is missing", spec.name);
    require(found->second.sizes() == at::IntArrayRef(spec.shape),
            "model: tensor '{}' has shape {}, the config asks for {}", spec.name,
            formats::shape_text(found->second.sizes().vec()), formats::shape_text(spec.shape));
    by_name_.insert(*found);
  }
}

at::Tensor LanguageModel::readout(const at::Tensor& hidden_NTD) const {
  return at::linear(hidden_NTD, readout_weight());
}

at::Tensor LanguageModel::weight(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? at::Tensor() : found->second;
}

Linear LanguageModel::linear(const std::string& name) const {
  return {weight(name + ".weight"), weight(name + ".bias")};
}

LayerNorm LanguageModel::layer_norm(const std::string& name, double epsilon) const {
  return {weight(name + ".weight"), weight(name + ".bias"), epsilon};
}

RmsNorm LanguageModel::rms_norm(const std::string& name, double epsilon) const {
  return {weight(name + ".weight"), epsilon};
}

at::Tensor cross_entropy(const at::Tensor& logits_NTV, const at::Tensor& targets_NT) {
  return at::cross_entropy_loss(logits_NTV.flatten(0, 1), targets_NT.flatten());
}

}  // namespace cresco::models
