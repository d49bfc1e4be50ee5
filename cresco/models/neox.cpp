#include "cresco/models/neox.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

namespace cresco::models {

Neox::Neox(const families::NeoxConfig& config, std::vector<tensor::NamedTensor> weights)
    : LanguageModel((families::check(config, "model"), families::neox_tensors(config)),
                    std::move(weights)),
      config_(config) {
  embed_in_VD_ = weight("gpt_neox.embed_in.weight");
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const std::string at = fmt::format("gpt_neox.layers.{}.", i);
    layers_.push_back({layer_norm(at + "input_layernorm", config_.layer_norm_eps),
                       layer_norm(at + "post_attention_layernorm", config_.layer_norm_eps),
                       linear(at + "attention.query_key_value"), linear(at + "attention.dense"),
                       linear(at + "mlp.dense_h_to_4h"), linear(at + "mlp.dense_4h_to_h")});
  }
  final_norm_ = layer_norm("gpt_neox.final_layer_norm", config_.layer_norm_eps);
  embed_out_VD_ = config_.tie_word_embeddings ? embed_in_VD_ : weight("embed_out.weight");
}

at::Tensor Neox::attention(const Layer& layer, const at::Tensor& x_NTD,
                           const RotaryTable& table) const {
  const auto [q_NHTC, k_NHTC, v_NHTC] =
      rotate_in_place(layer.query_key_value(x_NTD), config_.num_attention_heads, table);
  return layer.dense(causal_attention(q_NHTC, k_NHTC, v_NHTC,
                                      1 / std::sqrt(static_cast<double>(config_.head_size()))));
}

at::Tensor Neox::mlp(const Layer& layer, const at::Tensor& x_NTD) const {
  return layer.h4_to_h(gelu(layer.h_to_4h(x_NTD), config_.hidden_act));
}

at::Tensor Neox::hidden(const at::Tensor& ids_NT, const Tap& tap) const {
  const at::Tensor embedded_NTD = embed(embed_in_VD_, ids_NT);
  const RotaryTable table =
      rotary_table(ids_NT.size(1), config_.rotary_size(), config_.rotary_emb_base, embedded_NTD);
  const auto layer_of = [this, tap, table](std::int64_t i, const at::Tensor& x_NTD) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    const at::Tensor attention_NTD = attention(layer, layer.input_norm(x_NTD), table);
    show(tap, "attn_out", i, attention_NTD);
    const at::Tensor between_NTD = config_.use_parallel_residual ? x_NTD : x_NTD + attention_NTD;
    const at::Tensor mlp_NTD = mlp(layer, layer.post_attention_norm(between_NTD));
    show(tap, "mlp_out", i, mlp_NTD);
    return config_.use_parallel_residual ? mlp_NTD + attention_NTD + x_NTD : between_NTD + mlp_NTD;
  };
  const at::Tensor normed_NTD = final_norm_(through_layers(embedded_NTD, tap, layer_of));
  show(tap, "final_norm", num_layers(), normed_NTD);
  return normed_NTD;
}

}  // namespace cresco::models
