#include "cresco/dictionaries/stacked_step.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/dictionaries/straight_through.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

// The same numbers, as leaves of a graph of their own.
CrosscoderParameters leaves_of(const CrosscoderParameters& p) {
  const auto leaf = [](const at::Tensor& t) {
    return t.defined() ? t.detach().set_requires_grad(true) : t;
  };
  return {leaf(p.encoder_KDF),     leaf(p.encoder_bias_KF), leaf(p.decoder_KFD),
          leaf(p.decoder_bias_KD), leaf(p.log_threshold_F), leaf(p.gate_bias_F),
          leaf(p.log_magnitude_F), leaf(p.magnitude_bias_F)};
}

at::Tensor codes(const Activation& activation, const StackedSettings& settings,
                 const CrosscoderParameters& p, const at::Tensor& p_BF) {
  switch (activation.kind) {
    case ActivationKind::SharedJumpRelu:
      return p_BF *
             step_with_sigmoid_gradient((p_BF - p.log_threshold_F.exp()) / settings.bandwidth);
    case ActivationKind::Gated:
      return step_with_sigmoid_gradient(p_BF + p.gate_bias_F) *
             at::relu(p.log_magnitude_F.exp() * p_BF + p.magnitude_bias_F);
    default:
      fail("activation {} has no loss with shared codes", name_of(activation.kind));
  }
}

// Sum over batch, heads and columns of (r - x)^2, r decoded from one code for all heads.
at::Tensor squared_error(const CrosscoderParameters& p, const at::Tensor& code_BF,
                         const at::Tensor& x_BKD) {
  const auto decoders = p.decoder_KFD.unbind(0), biases = p.decoder_bias_KD.unbind(0);
  at::Tensor sum;
  for (std::size_t k = 0; k < decoders.size(); ++k) {
    const at::Tensor error_BD =
        at::addmm(biases[k], code_BF, decoders[k]) - x_BKD.select(1, static_cast<std::int64_t>(k));
    const at::Tensor of_head = error_BD.square().sum();
    sum = sum.defined() ? sum + of_head : of_head;
  }
  return sum;
}

at::Tensor sparsity(const Activation& activation, const StackedSettings& settings,
                    const CrosscoderParameters& p, const at::Tensor& p_BF,
                    const at::Tensor& code_BF) {
  const at::Tensor norm_F = at::linalg_vector_norm(p.decoder_KFD, 2, {-1}).sum(0);
  if (activation.kind == ActivationKind::Gated)
    return (at::relu(p_BF + p.gate_bias_F) * norm_F).sum(1).mean();
  const at::Tensor mean_F = (settings.tanh_stretch_coefficient * code_BF * norm_F).tanh().mean(0);
  return (mean_F * (1 + mean_F / settings.frequency_scale)).sum();
}

}  // namespace

CrosscoderParameters stacked_initial_parameters(const Activation& activation, RandomKind kind,
                                                std::uint64_t seed, std::int64_t num_heads,
                                                std::int64_t width, std::int64_t num_features,
                                                double init_threshold) {
  const auto bound = static_cast<float>(1 / std::sqrt(static_cast<double>(num_features)));
  CrosscoderParameters p{.encoder_bias_KF = at::zeros({num_heads, num_features}),
                         .decoder_KFD = at::empty({num_heads, num_features, width}),
                         .decoder_bias_KD = at::zeros({num_heads, width})};
  if (kind == RandomKind::Torch) {
    std::mt19937 generator(static_cast<std::uint32_t>(seed));
    torch_uniform(generator, p.decoder_KFD, -bound, bound);
  } else {
    RandomStream(seed, "init/stacked")
        .fill_uniform({p.decoder_KFD.mutable_data_ptr<float>(),
                       static_cast<std::size_t>(p.decoder_KFD.numel())},
                      -bound, bound);
  }
  p.encoder_KDF = p.decoder_KFD.transpose(1, 2).contiguous();
  if (activation.has_threshold())
    p.log_threshold_F = at::full({num_features}, std::log(init_threshold));
  if (activation.kind == ActivationKind::Gated)
    for (at::Tensor* t : {&p.gate_bias_F, &p.log_magnitude_F, &p.magnitude_bias_F})
      *t = at::zeros({num_features});
  return p;
}

LossTerms stacked_loss_and_gradients(const Activation& activation, const StackedSettings& settings,
                                     const CrosscoderParameters& parameters,
                                     const at::Tensor& x_BKD, CrosscoderParameters& gradients) {
  const torch::autograd::AutoGradMode with_grad(true);
  const CrosscoderParameters p = leaves_of(parameters);
  const bool gated = activation.kind == ActivationKind::Gated;
  const double rows_and_heads = static_cast<double>(x_BKD.size(0) * x_BKD.size(1));

  const at::Tensor p_BF =
      at::addmm(p.encoder_bias_KF.sum(0), x_BKD.flatten(1), p.encoder_KDF.flatten(0, 1));
  const at::Tensor code_BF = codes(activation, settings, p, p_BF);
  const at::Tensor sum_squared_error = squared_error(p, code_BF, x_BKD);
  const at::Tensor l_rec = sum_squared_error / rows_and_heads;
  const at::Tensor l_s = sparsity(activation, settings, p, p_BF, code_BF);
  at::Tensor loss = l_rec + settings.coefficient * l_s, l_aux;
  if (gated) {
    l_aux = squared_error(p, at::relu(p_BF + p.gate_bias_F), x_BKD) / rows_and_heads;
    loss = loss + settings.gated_aux_coefficient * l_aux;
  }

  std::vector<at::Tensor> leaves;
  for (const auto& [name, t] : p.named()) leaves.push_back(t);
  const auto found = torch::autograd::grad({loss}, leaves);
  const auto places = gradients.named();
  TORCH_INTERNAL_ASSERT(places.size() == found.size());
  for (std::size_t i = 0; i < found.size(); ++i) places[i].second.copy_(found[i]);

  return {.loss = loss.item<double>(),
          .l_rec = l_rec.item<double>(),
          .l_s = l_s.item<double>(),
          .l_aux = gated ? l_aux.item<double>() : 0,
          .l0 = static_cast<double>(code_BF.gt(0).sum().item<std::int64_t>()) /
                static_cast<double>(x_BKD.size(0)),
          .sum_squared_error = sum_squared_error.item<double>()};
}

}  // namespace cresco::dictionaries
