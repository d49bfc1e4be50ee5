#include "cresco/models/gpt2.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::models {

Gpt2::Gpt2(const families::Gpt2Config& config, std::vector<tensor::NamedTensor> weights)
    : LanguageModel((families::check(config, "model"), families::gpt2_tensors(config)),
                    std::move(weights)),
      config_(config) {
  const double eps = config_.layer_norm_epsilon;
  const auto oriented = [&](const std::string& name) {
    const Linear stored = linear(name);
    return config_.conv1d ? Linear{stored.weight.t(), stored.bias} : stored;
  };
  embed_VD_ = weight("transformer.wte.weight");
  positions_TD_ = weight("transformer.wpe.weight");
  for (std::int64_t i = 0; i < config_.n_layer; ++i) {
    const std::string at = fmt::format("transformer.h.{}.", i);
    double scale =
        config_.scale_attn_weights ? 1 / std::sqrt(static_cast<double>(config_.head_size())) : 1;
    if (config_.scale_attn_by_inverse_layer_idx) scale /= static_cast<double>(i + 1);
    layers_.push_back({layer_norm(at + "ln_1", eps), oriented(at + "attn.c_attn"),
                       oriented(at + "attn.c_proj"), layer_norm(at + "ln_2", eps),
                       oriented(at + "mlp.c_fc"), oriented(at + "mlp.c_proj"), scale});
  }
  final_norm_ = layer_norm("transformer.ln_f", eps);
  readout_VD_ = config_.tie_word_embeddings ? embed_VD_ : weight("lm_head.weight");
}

at::Tensor Gpt2::attention(const Layer& layer, const at::Tensor& x_NTD) const {
  const std::int64_t N = x_NTD.size(0), T = x_NTD.size(1), D = x_NTD.size(2);
  const at::Tensor qkv = layer.query_key_value(x_NTD);  // (N, T, q | k | v of all heads)
  const auto heads = [&](std::int64_t which) {
    return qkv.narrow(-1, which * D, D)
        .view({N, T, config_.n_head, config_.head_size()})
        .transpose(1, 2);
  };
  return layer.output(causal_attention(heads(0), heads(1), heads(2), layer.score_scale));
}

at::Tensor Gpt2::hidden(const at::Tensor& ids_NT, const Tap& tap) const {
  const std::int64_t T = ids_NT.size(1);
  require(T <= config_.n_positions, "model: {} positions, its n_positions is {}", T,
          config_.n_positions);
  const at::Tensor embedded_NTD = embed(embed_VD_, ids_NT) + positions_TD_.narrow(0, 0, T);
  const auto layer_of = [this, tap](std::int64_t i, const at::Tensor& x_NTD) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    const at::Tensor attention_NTD = attention(layer, layer.attention_norm(x_NTD));
    show(tap, "attn_out", i, attention_NTD);
    const at::Tensor between_NTD = x_NTD + attention_NTD;
    const at::Tensor inner =
        gelu(layer.in(layer.mlp_norm(between_NTD)), config_.activation_function);
    const at::Tensor mlp_NTD = layer.out(inner);
    show(tap, "mlp_out", i, mlp_NTD);
    return between_NTD + mlp_NTD;
  };
  const at::Tensor normed_NTD = final_norm_(through_layers(embedded_NTD, tap, layer_of));
  show(tap, "final_norm", num_layers(), normed_NTD);
  return normed_NTD;
}

}  // namespace cresco::models
