#include "cresco/models/neox.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::models {

Neox::Neox(const families::NeoxConfig& config, std::vector<tensor::NamedTensor> weights)
    : config_(config), weights_(std::move(weights)) {
  families::check(config_, "model");
  std::unordered_map<std::string, at::Tensor> by_name(weights_.begin(), weights_.end());
  for (const families::TensorSpec& spec : families::neox_tensors(config_)) {
    const auto found = by_name.find(spec.name);
    require(found != by_name.end(), "model: tensor '{}' is missing", spec.name);
    require(found->second.sizes() == at::IntArrayRef(spec.shape),
            "model: tensor '{}' has shape {}, the config asks for {}", spec.name,
            formats::shape_text(found->second.sizes().vec()), formats::shape_text(spec.shape));
  }
  const auto linear = [&](const std::string& name) {
    return Linear{by_name[name + ".weight"], by_name[name + ".bias"]};
  };
  const auto norm = [&](const std::string& name) {
    return Norm{by_name[name + ".weight"], by_name[name + ".bias"]};
  };
  embed_in_VD_ = by_name["gpt_neox.embed_in.weight"];
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", i);
    layers_.push_back({norm(at + "input_layernorm"), norm(at + "post_attention_layernorm"),
                       linear(at + "attention.query_key_value"), linear(at + "attention.dense"),
                       linear(at + "mlp.dense_h_to_4h"), linear(at + "mlp.dense_4h_to_h")});
  }
  final_norm_ = norm("gpt_neox.final_layer_norm");
  embed_out_VD_ = config_.tie_word_embeddings ? embed_in_VD_ : by_name["embed_out.weight"];
}

at::Tensor Neox::Linear::operator()(const at::Tensor& x) const {
  return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

at::Tensor Neox::norm(const Norm& parameters, const at::Tensor& x_NTD) const {
  return at::layer_norm(x_NTD, {config_.hidden_size}, parameters.weight, parameters.bias,
                        config_.layer_norm_eps);
}

namespace {

// Angles of the rotary embedding: position * base^(-2j/R), for each of the R/2 pairs, twice over.
std::pair<at::Tensor, at::Tensor> rotary_table(const families::NeoxConfig& config,
                                               std::int64_t positions,
                                               const at::TensorOptions& options) {
  const std::int64_t R = config.rotary_size();
  const at::TensorOptions exact =
      options.dtype() == at::kDouble ? options : options.dtype(at::kFloat);
  const at::Tensor inverse_frequency =
      at::pow(config.rotary_emb_base, at::arange(0, R, 2, exact) / static_cast<double>(R))
          .reciprocal();
  const at::Tensor angle = at::outer(at::arange(positions, exact), inverse_frequency);
  const at::Tensor angle_TR = at::cat({angle, angle}, -1);
  return {angle_TR.cos().to(options.dtype()), angle_TR.sin().to(options.dtype())};
}

// Rotates the first R of C dimensions; dimension j is paired with j + R/2.
at::Tensor rotate(const at::Tensor& x_NHTC, const at::Tensor& cos_TR, const at::Tensor& sin_TR) {
  const std::int64_t R = cos_TR.size(-1), C = x_NHTC.size(-1);
  if (R == 0) return x_NHTC;
  const at::Tensor x_NHTR = x_NHTC.narrow(-1, 0, R);
  const at::Tensor first = x_NHTR.narrow(-1, 0, R / 2), second = x_NHTR.narrow(-1, R / 2, R / 2);
  const at::Tensor turned_NHTR = at::cat({second.neg(), first}, -1);
  const at::Tensor rotated_NHTR = x_NHTR * cos_TR + turned_NHTR * sin_TR;
  return R == C ? rotated_NHTR : at::cat({rotated_NHTR, x_NHTC.narrow(-1, R, C - R)}, -1);
}

}  // namespace

at::Tensor Neox::attention(const Layer& layer, const at::Tensor& x_NTD, const at::Tensor& cos_TR,
                           const at::Tensor& sin_TR) const {
  const std::int64_t N = x_NTD.size(0), T = x_NTD.size(1), H = config_.num_attention_heads;
  const std::int64_t C = config_.head_size();
  // Rows of the one matrix belong to heads: [q | k | v] of head 0, then of head 1, ...
  const at::Tensor qkv_NHT3C = layer.query_key_value(x_NTD).view({N, T, H, 3 * C}).transpose(1, 2);
  const at::Tensor q_NHTC = rotate(qkv_NHT3C.narrow(-1, 0, C), cos_TR, sin_TR);
  const at::Tensor k_NHTC = rotate(qkv_NHT3C.narrow(-1, C, C), cos_TR, sin_TR);
  const at::Tensor v_NHTC = qkv_NHT3C.narrow(-1, 2 * C, C);
  const at::Tensor mixed_NHTC =
      at::scaled_dot_product_attention(q_NHTC, k_NHTC, v_NHTC, /*attn_mask=*/{},
                                       /*dropout_p=*/0.0, /*is_causal=*/true);
  return layer.dense(mixed_NHTC.transpose(1, 2).reshape({N, T, H * C}));
}

at::Tensor Neox::mlp(const Layer& layer, const at::Tensor& x_NTD) const {
  const char* const form = config_.hidden_act == "gelu" ? "none" : "tanh";
  return layer.h4_to_h(at::gelu(layer.h_to_4h(x_NTD), form));
}

at::Tensor Neox::hidden(const at::Tensor& ids_NT, const Tap& tap) const {
  const auto show = [&](const char* name, std::int64_t layer, const at::Tensor& x_NTD) {
    if (tap) tap(name, layer, x_NTD);
  };
  at::Tensor x_NTD = at::embedding(embed_in_VD_, ids_NT);
  const auto [cos_TR, sin_TR] =
      rotary_table(config_, ids_NT.size(1), x_NTD.options().requires_grad(false));
  show("embed", -1, x_NTD);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto at = static_cast<std::int64_t>(i);
    show("resid_pre", at, x_NTD);
    const at::Tensor attention_NTD =
        attention(layer, norm(layer.input_norm, x_NTD), cos_TR, sin_TR);
    show("attn_out", at, attention_NTD);
    if (config_.use_parallel_residual) {
      const at::Tensor mlp_NTD = mlp(layer, norm(layer.post_attention_norm, x_NTD));
      show("mlp_out", at, mlp_NTD);
      x_NTD = mlp_NTD + attention_NTD + x_NTD;
    } else {
      x_NTD = x_NTD + attention_NTD;
      const at::Tensor mlp_NTD = mlp(layer, norm(layer.post_attention_norm, x_NTD));
      show("mlp_out", at, mlp_NTD);
      x_NTD = x_NTD + mlp_NTD;
    }
    show("resid_post", at, x_NTD);
  }
  x_NTD = norm(final_norm_, x_NTD);
  show("final_norm", static_cast<std::int64_t>(layers_.size()), x_NTD);
  return x_NTD;
}

at::Tensor Neox::readout(const at::Tensor& hidden_NTD) const {
  return at::linear(hidden_NTD, embed_out_VD_);
}

at::Tensor Neox::logits(const at::Tensor& ids_NT, const Tap& tap) const {
  return readout(hidden(ids_NT, tap));
}

at::Tensor cross_entropy(const at::Tensor& logits_NTV, const at::Tensor& targets_NT) {
  return at::cross_entropy_loss(logits_NTV.flatten(0, 1), targets_NT.flatten());
}

std::vector<tensor::NamedTensor> initialise(const families::NeoxConfig& config,
                                            const std::string& name, std::uint64_t seed) {
  require_usage(name == "small_wang", "init.name '{}' is not known; it is small_wang", name);
  const auto width = static_cast<double>(config.hidden_size);
  const double small = std::sqrt(2 / (5 * width));
  const double wang = 2 / (static_cast<double>(config.num_hidden_layers) * std::sqrt(width));
  std::vector<tensor::NamedTensor> weights;
  for (const families::TensorSpec& spec : families::neox_tensors(config)) {
    at::Tensor tensor = at::zeros(spec.shape);
    if (spec.shape.size() == 2) {
      const bool writes_residual = spec.name.ends_with("attention.dense.weight") ||
                                   spec.name.ends_with("dense_4h_to_h.weight");
      RandomStream(seed, "init/" + spec.name)
          .fill_normal({tensor.mutable_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())},
                       0, static_cast<float>(writes_residual ? wang : small));
    } else if (spec.name.ends_with("layernorm.weight") ||
               spec.name.ends_with("layer_norm.weight")) {
      tensor.fill_(1);
    }
    weights.emplace_back(spec.name, tensor);
  }
  return weights;
}

}  // namespace cresco::models
