// GPT-2, as Hugging Face's GPT2LMHeadModel computes it, or nanoGPT, or llm.c.
#pragma once

#include "cresco/families/gpt2.h"
#include "cresco/models/language_model.h"

#include <vector>

namespace cresco::models {

class Gpt2 : public LanguageModel {
 public:
  // `weights` as families::gpt2_tensors(config) lists them: matrices are (in, out) when
  // config.conv1d says so, and read through a transposed view. Used as they are, not copied. Error
  // for a missing tensor or another shape.
  Gpt2(const families::Gpt2Config& config, std::vector<tensor::NamedTensor> weights);

  const families::Gpt2Config& config() const { return config_; }
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t num_layers() const override { return config_.n_layer; }
  std::int64_t max_context() const override { return config_.n_positions; }

  // Error for more positions than the position embedding has.
  at::Tensor hidden(const at::Tensor& ids_NT, const Tap& tap = {}) const override;
  const at::Tensor& readout_weight() const override { return readout_VD_; }

 private:
  struct Layer {
    LayerNorm attention_norm;
    Linear query_key_value, output;
    LayerNorm mlp_norm;
    Linear in, out;
    double score_scale;
  };

  at::Tensor attention(const Layer& layer, const at::Tensor& x_NTD) const;

  families::Gpt2Config config_;
  at::Tensor embed_VD_, positions_TD_, readout_VD_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
};

}  // namespace cresco::models
