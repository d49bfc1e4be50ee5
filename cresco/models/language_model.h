// A causal language model by what every family's has: ids in, logits out.
//
// Shape suffixes in this folder: N sequences, T positions, D model width, H heads, C dimensions a
// head, R rotated dimensions a head, V vocabulary.
#pragma once

#include "cresco/families/families.h"
#include "cresco/models/layers.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

namespace cresco::models {

// Called with the activations at each named place of the forward pass:
//   embed        what the first layer reads               layer -1
//   resid_pre    what a layer reads                       0 .. layers-1
//   attn_out     what attention adds to the residual
//   mlp_out      what the MLP adds
//   resid_post   what a layer leaves
//   final_norm   what the readout reads                   layer = layers
// All are (N, T, D). The tensors are the model's own: copy what is to be kept.
using Tap =
    std::function<void(const std::string& name, std::int64_t layer, const at::Tensor& x_NTD)>;

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t num_layers() const = 0;
  virtual std::int64_t max_context() const = 0;  // positions

  // Input of the readout, after the final norm. Ids are int64 (N, T), each below vocab_size, on the
  // weights' device.
  virtual at::Tensor hidden(const at::Tensor& ids_NT, const Tap& tap = {}) const = 0;
  virtual const at::Tensor& readout_weight() const = 0;    // W_U, (V, D)
  at::Tensor readout(const at::Tensor& hidden_NTD) const;  // -> logits (N, T, V)
  at::Tensor logits(const at::Tensor& ids_NT, const Tap& tap = {}) const {
    return readout(hidden(ids_NT, tap));
  }

  // From now on a training step keeps what each layer reads, and computes the rest of it again in
  // the backward pass: the layers' forward pass twice, and the same gradients to the bit.
  void checkpoint_activations() { checkpoints_ = true; }

  // As they were given: under their canonical names, as files store them.
  const std::vector<tensor::NamedTensor>& weights() const { return weights_; }
  at::Device device() const { return weights_.front().second.device(); }

 protected:
  // `weights` has every tensor of `specs`, in one floating type; they are used as they are, not
  // copied. Error for a missing tensor or another shape.
  LanguageModel(const std::vector<families::TensorSpec>& specs,
                std::vector<tensor::NamedTensor> weights);
  // x through all layers, with the taps of what stands between them. layer(i, x) is kept for the
  // backward pass, so that it must own what it uses beside the model.
  using Layers = std::function<at::Tensor(std::int64_t layer, const at::Tensor& x_NTD)>;
  at::Tensor through_layers(at::Tensor x_NTD, const Tap& tap, const Layers& layer) const;
  static void show(const Tap& tap, const char* name, std::int64_t layer, const at::Tensor& x_NTD) {
    if (tap) tap(name, layer, x_NTD);
  }

  at::Tensor weight(const std::string& name) const;  // undefined when `specs` has no such tensor
  Linear linear(const std::string& name) const;      // of `name`.weight and `name`.bias
  LayerNorm layer_norm(const std::string& name, double epsilon) const;
  RmsNorm rms_norm(const std::string& name, double epsilon) const;

 private:
  bool checkpoints_ = false;
  std::vector<tensor::NamedTensor> weights_;
  std::unordered_map<std::string, at::Tensor> by_name_;
};

// Mean cross entropy in nats of `targets_NT` under `logits_NTV`, all positions with the same
// weight.
at::Tensor cross_entropy(const at::Tensor& logits_NTV, const at::Tensor& targets_NT);

}  // namespace cresco::models
