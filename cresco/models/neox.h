// GPT-NeoX, as Hugging Face's GPTNeoXForCausalLM computes it.
#pragma once

#include "cresco/families/neox.h"
#include "cresco/models/language_model.h"

#include <string>
#include <vector>

namespace cresco::models {

class Neox : public LanguageModel {
 public:
  // `weights` has every tensor of families::neox_tensors(config) under its canonical name, in any
  // floating type; they are used as they are, not copied. Error for a missing tensor or another
  // shape.
  Neox(const families::NeoxConfig& config, std::vector<tensor::NamedTensor> weights);

  const families::NeoxConfig& config() const { return config_; }
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t num_layers() const override { return config_.num_hidden_layers; }
  std::int64_t max_context() const override { return config_.max_position_embeddings; }

  at::Tensor hidden(const at::Tensor& ids_NT, const Tap& tap = {}) const override;
  const at::Tensor& readout_weight() const override { return embed_out_VD_; }

 private:
  struct Layer {
    LayerNorm input_norm, post_attention_norm;
    Linear query_key_value, dense, h_to_4h, h4_to_h;
  };

  at::Tensor attention(const Layer& layer, const at::Tensor& x_NTD, const RotaryTable& table) const;
  at::Tensor mlp(const Layer& layer, const at::Tensor& x_NTD) const;

  families::NeoxConfig config_;
  at::Tensor embed_in_VD_, embed_out_VD_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
};

}  // namespace cresco::models
