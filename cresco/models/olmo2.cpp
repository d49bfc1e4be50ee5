#include "cresco/models/olmo2.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::models {

Olmo2::Olmo2(const families::Olmo2Config& config, std::vector<tensor::NamedTensor> weights)
    : LanguageModel((families::check(config, "model"), families::olmo2_tensors(config)),
                    std::move(weights)),
      config_(config) {
  const double eps = config_.rms_norm_eps;
  embed_VD_ = weight("model.embed_tokens.weight");
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const std::string at = fmt::format("model.layers.{}.", i);
    layers_.push_back({linear(at + "self_attn.q_proj"), linear(at + "self_attn.k_proj"),
                       linear(at + "self_attn.v_proj"), linear(at + "self_attn.o_proj"),
                       rms_norm(at + "self_attn.q_norm", eps),
                       rms_norm(at + "self_attn.k_norm", eps),
                       rms_norm(at + "post_attention_layernorm", eps), linear(at + "mlp.gate_proj"),
                       linear(at + "mlp.up_proj"), linear(at + "mlp.down_proj"),
                       rms_norm(at + "post_feedforward_layernorm", eps)});
  }
  final_norm_ = rms_norm("model.norm", eps);
  readout_VD_ = config_.tie_word_embeddings ? embed_VD_ : weight("lm_head.weight");
}

at::Tensor Olmo2::attention(const Layer& layer, const at::Tensor& x_NTD,
                            const RotaryTable& table) const {
  const std::int64_t N = x_NTD.size(0), T = x_NTD.size(1), C = config_.head_size();
  const auto heads = [&](const at::Tensor& x) {
    return x.view({N, T, x.size(-1) / C, C}).transpose(1, 2);
  };
  const auto rotated = [&](const at::Tensor& x_NHTC) {
    return rotate(x_NHTC, table).to(x_NHTC.scalar_type());
  };
  const at::Tensor q_NHTC = rotated(heads(layer.query_norm(layer.query(x_NTD))));
  const at::Tensor k_NHTC = rotated(heads(layer.key_norm(layer.key(x_NTD))));
  const at::Tensor v_NHTC = heads(layer.value(x_NTD));
  return layer.output(
      causal_attention(q_NHTC, k_NHTC, v_NHTC, 1 / std::sqrt(static_cast<double>(C))));
}

at::Tensor Olmo2::hidden(const at::Tensor& ids_NT, const Tap& tap) const {
  const at::Tensor embedded_NTD = at::embedding(embed_VD_, ids_NT);
  const RotaryTable table =
      rotary_table(ids_NT.size(1), config_.head_size(), config_.rope_theta, embedded_NTD);
  const auto layer_of = [this, tap, table](std::int64_t i, const at::Tensor& x_NTD) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    const at::Tensor attention_NTD = layer.post_attention_norm(attention(layer, x_NTD, table));
    show(tap, "attn_out", i, attention_NTD);
    const at::Tensor between_NTD = x_NTD + attention_NTD;
    // SwiGLU (Shazeer 2020).
    const at::Tensor inner = at::silu(layer.gate(between_NTD)) * layer.up(between_NTD);
    const at::Tensor mlp_NTD = layer.post_feedforward_norm(layer.down(inner));
    show(tap, "mlp_out", i, mlp_NTD);
    return between_NTD + mlp_NTD;
  };
  const at::Tensor normed_NTD = final_norm_(through_layers(embedded_NTD, tap, layer_of));
  show(tap, "final_norm", num_layers(), normed_NTD);
  return normed_NTD;
}

}  // namespace cresco::models
