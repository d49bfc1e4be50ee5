#include "cresco/models/layers.h"

#include <ATen/ATen.h>

namespace cresco::models {
namespace {

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

at::ScalarType at_least_float(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return at::linear(x, weight, if_defined(bias));
}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, if_defined(bias), epsilon);
}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  const at::Tensor exact = x.to(at_least_float(x));
  const at::Tensor normed = exact * at::rsqrt(exact.square().mean(-1, /*keepdim=*/true) + epsilon);
  return (weight * normed).to(x.scalar_type());
}

at::Tensor gelu(const at::Tensor& x, const std::string& name) {
  return at::gelu(x, name == "gelu" ? "none" : "tanh");
}

RotaryTable rotary_table(std::int64_t positions, std::int64_t rotary_size, double base,
                         const at::Tensor& like) {
  const at::TensorOptions exact = at::TensorOptions(like.device()).dtype(at_least_float(like));
  const at::Tensor inverse_frequency =
      at::pow(base, at::arange(0, rotary_size, 2, exact) / static_cast<double>(rotary_size))
          .reciprocal();
  const at::Tensor angle = at::outer(at::arange(positions, exact), inverse_frequency);
  const at::Tensor angle_TR = at::cat({angle, angle}, -1);
  return {angle_TR.cos(), angle_TR.sin()};
}

at::Tensor rotate(const at::Tensor& x_NHTC, const RotaryTable& table) {
  const std::int64_t R = table.cos_TR.size(-1), C = x_NHTC.size(-1);
  if (R == 0) return x_NHTC;
  const at::Tensor x_NHTR = x_NHTC.narrow(-1, 0, R);
  const at::Tensor first = x_NHTR.narrow(-1, 0, R / 2), second = x_NHTR.narrow(-1, R / 2, R / 2);
  const at::Tensor turned_NHTR = at::cat({second.neg(), first}, -1);
  const at::Tensor rotated_NHTR = x_NHTR * table.cos_TR + turned_NHTR * table.sin_TR;
  return R == C ? rotated_NHTR : at::cat({rotated_NHTR, x_NHTC.narrow(-1, R, C - R)}, -1);
}

at::Tensor causal_attention(const at::Tensor& q_NHTC, const at::Tensor& k_NHTC,
                            const at::Tensor& v_NHTC, double scale) {
  const std::int64_t group = q_NHTC.size(1) / k_NHTC.size(1);
  const auto for_each_query = [&](const at::Tensor& x) {
    return group == 1 ? x : x.repeat_interleave(group, 1);
  };
  const at::Tensor mixed_NHTC = at::scaled_dot_product_attention(
      q_NHTC, for_each_query(k_NHTC), for_each_query(v_NHTC), /*attn_mask=*/{},
      /*dropout_p=*/0.0, /*is_causal=*/true, scale);
  return mixed_NHTC.transpose(1, 2).flatten(2);
}

}  // namespace cresco::models
