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
  const auto show = [&](const char* name, std::int64_t layer, const at::Tensor& x_NTD) {
    if (tap) tap(name, layer, x_NTD);
  };
  at::Tensor x_NTD = at::embedding(embed_VD_, ids_NT);
  const RotaryTable table =
      rotary_table(ids_NT.size(1), config_.head_size(), config_.rope_theta, x_NTD);
  show("embed", -1, x_NTD);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto at = static_cast<std::int64_t>(i);
    show("resid_pre", at, x_NTD);
    const at::Tensor attention_NTD = layer.post_attention_norm(attention(layer, x_NTD, table));
    show("attn_out", at, attention_NTD);
    x_NTD = x_NTD + attention_NTD;
    // SwiGLU (Shazeer 2020).
    const at::Tensor inner = at::silu(layer.gate(x_NTD)) * layer.up(x_NTD);
    const at::Tensor mlp_NTD = layer.post_feedforward_norm(layer.down(inner));
    show("mlp_out", at, mlp_NTD);
    x_NTD = x_NTD + mlp_NTD;
    show("resid_post", at, x_NTD);
  }
  x_NTD = final_norm_(x_NTD);
  show("final_norm", num_layers(), x_NTD);
  return x_NTD;
}

}  // namespace cresco::models
