// OLMo-2, as Hugging Face's Olmo2ForCausalLM computes it.
#pragma once

#include "cresco/families/olmo2.h"
#include "cresco/models/language_model.h"

#include <vector>

namespace cresco::models {

// No norm stands before attention and MLP: what they add to the residual is normed. Queries and
// keys are normed over all heads together, before they are rotated.
class Olmo2 : public LanguageModel {
 public:
  // `weights` as families::olmo2_tensors(config) lists them; used as they are, not copied. Error
  // for a missing tensor or another shape.
  Olmo2(const families::Olmo2Config& config, std::vector<tensor::NamedTensor> weights);

  const families::Olmo2Config& config() const { return config_; }
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t num_layers() const override { return config_.num_hidden_layers; }
  std::int64_t max_context() const override { return config_.max_position_embeddings; }

  // The taps attn_out and mlp_out see what is added to the residual: after the norm.
  at::Tensor hidden(const at::Tensor& ids_NT, const Tap& tap = {}) const override;
  const at::Tensor& readout_weight() const override { return readout_VD_; }

 private:
  struct Layer {
    Linear query, key, value, output;
    RmsNorm query_norm, key_norm, post_attention_norm;
    Linear gate, up, down;
    RmsNorm post_feedforward_norm;
  };

  at::Tensor attention(const Layer& layer, const at::Tensor& x_NTD, const RotaryTable& table) const;

  families::Olmo2Config config_;
  at::Tensor embed_VD_, readout_VD_;
  std::vector<Layer> layers_;
  RmsNorm final_norm_;
};

}  // namespace cresco::models
