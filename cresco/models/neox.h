// GPT-NeoX, as Hugging Face's GPTNeoXForCausalLM computes it.
//
// Shape suffixes in this folder: N sequences, T positions, D model width, H heads, C dimensions a
// head, R rotated dimensions a head, V vocabulary.
#pragma once

#include "cresco/families/neox.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

namespace cresco::models {

// Called with the activations at each named place of the forward pass:
//   embed        the embedded ids                         layer -1
//   resid_pre    what a layer reads                       0 .. layers-1
//   attn_out     what attention adds to the residual
//   mlp_out      what the MLP adds
//   resid_post   what a layer leaves
//   final_norm   what the readout reads                   layer = layers
// All are (N, T, D). The tensors are the model's own: copy what is to be kept.
using Tap =
    std::function<void(const std::string& name, std::int64_t layer, const at::Tensor& x_NTD)>;

class Neox {
 public:
  // `weights` has every tensor of families::neox_tensors(config) under its canonical name, in any
  // floating type; they are used as they are, not copied. Error for a missing tensor or another
  // shape.
  Neox(const families::NeoxConfig& config, std::vector<tensor::NamedTensor> weights);

  const families::NeoxConfig& config() const { return config_; }
  const std::vector<tensor::NamedTensor>& weights() const { return weights_; }

  // Input of the readout, after the final norm. Ids are int64 (N, T), each below vocab_size.
  at::Tensor hidden(const at::Tensor& ids_NT, const Tap& tap = {}) const;
  at::Tensor readout(const at::Tensor& hidden_NTD) const;  // -> logits (N, T, V)
  at::Tensor logits(const at::Tensor& ids_NT, const Tap& tap = {}) const;

 private:
  struct Linear {
    at::Tensor weight, bias;  // bias may be undefined
    at::Tensor operator()(const at::Tensor& x) const;
  };
  struct Norm {
    at::Tensor weight, bias;
  };
  struct Layer {
    Norm input_norm, post_attention_norm;
    Linear query_key_value, dense, h_to_4h, h4_to_h;
  };

  at::Tensor norm(const Norm& parameters, const at::Tensor& x_NTD) const;
  at::Tensor attention(const Layer& layer, const at::Tensor& x_NTD, const at::Tensor& cos_TR,
                       const at::Tensor& sin_TR) const;
  at::Tensor mlp(const Layer& layer, const at::Tensor& x_NTD) const;

  families::NeoxConfig config_;
  std::vector<tensor::NamedTensor> weights_;
  at::Tensor embed_in_VD_, embed_out_VD_;
  std::vector<Layer> layers_;
  Norm final_norm_;
};

// Mean cross entropy in nats of `targets_NT` under `logits_NTV`, all positions with the same
// weight.
at::Tensor cross_entropy(const at::Tensor& logits_NTV, const at::Tensor& targets_NT);

// Named initialisations, from numbers keyed by (seed, tensor name). small_wang: matrices N(0,
// 2/(5D)), the two that write to the residual N(0, (2/(layers sqrt(D)))^2); norm weights 1, biases
// 0 (Nguyen and Salazar 2019; Wang and Komatsuzaki 2021).
std::vector<tensor::NamedTensor> initialise(const families::NeoxConfig& config,
                                            const std::string& name, std::uint64_t seed);

}  // namespace cresco::models
