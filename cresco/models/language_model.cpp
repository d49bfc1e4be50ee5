#include "cresco/models/language_model.h"

#include "cresco/base/require.h"
#include "cresco/models/recomputed.h"

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

at::Tensor LanguageModel::through_layers(at::Tensor x_NTD, const Tap& tap,
                                         const Layers& layer) const {
  const bool recomputes = checkpoints_ && !tap && at::GradMode::is_enabled();
  show(tap, "embed", -1, x_NTD);
  for (std::int64_t i = 0; i < num_layers(); ++i) {
    show(tap, "resid_pre", i, x_NTD);
    x_NTD = recomputes ? recomputed([layer, i](const at::Tensor& x) { return layer(i, x); }, x_NTD)
                       : layer(i, x_NTD);
    show(tap, "resid_post", i, x_NTD);
  }
  return x_NTD;
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
