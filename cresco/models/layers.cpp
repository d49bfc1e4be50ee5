#include "cresco/models/layers.h"

#include "cresco/kernels/rotary.h"
#include "cresco/tensor/place.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

namespace cresco::models {
namespace {

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

at::ScalarType at_least_float(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Calls task(Number) with the kernels' name of a tensor's type.
template <class Task>
void for_type(at::ScalarType type, const Task& task) {
  if (type == at::kDouble)
    task(0.0);
  else if (type == at::kBFloat16)
    task(kernels::Bf16{});
  else if (type == at::kHalf)
    task(kernels::Fp16{});
  else
    task(0.0f);
}

class RotateInPlace : public torch::autograd::Function<RotateInPlace> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& qkv_NTJ, std::int64_t heads,
                                                const at::Tensor& cos_TR,
                                                const at::Tensor& sin_TR) {
    // What is made of qkv below are tensors of their own, as far as autograd knows.
    const at::AutoDispatchBelowADInplaceOrView guard;
    const std::int64_t N = qkv_NTJ.size(0), T = qkv_NTJ.size(1), C = qkv_NTJ.size(2) / (3 * heads);
    TORCH_INTERNAL_ASSERT(qkv_NTJ.is_contiguous() && cos_TR.is_contiguous() &&
                          sin_TR.is_contiguous());
    context->save_for_backward({cos_TR, sin_TR});
    context->saved_data["heads"] = heads;
    for_type(qkv_NTJ.scalar_type(), [&]<class Number>(Number) {
      const kernels::Rotary<Number> rotary{
          .sizes = sizes_of(qkv_NTJ, heads, cos_TR),
          .cos_TR = cos_TR.const_data_ptr<kernels::WideOf<Number>>(),
          .sin_TR = sin_TR.const_data_ptr<kernels::WideOf<Number>>(),
          .qkv = static_cast<Number*>(qkv_NTJ.mutable_data_ptr())};
      over_tokens(qkv_NTJ, [&](const kernels::Place& place, std::int64_t begin, std::int64_t end) {
        kernels::rotate(place, rotary, begin, end);
      });
    });
    const at::Tensor all_NHT3C = qkv_NTJ.view({N, T, heads, 3, C}).transpose(1, 2);
    return {all_NHT3C.select(3, 0), all_NHT3C.select(3, 1), all_NHT3C.select(3, 2)};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &cos_TR = saved[0], &sin_TR = saved[1];
    const std::int64_t heads = context->saved_data["heads"].toInt();
    for (at::Tensor& g : gradients)
      if (g.stride(3) != 1) g = g.contiguous();
    const at::Tensor& q = gradients[0];
    const at::Tensor qkv_NTJ =
        at::empty({q.size(0), q.size(2), 3 * heads * q.size(3)}, q.options());
    for_type(q.scalar_type(), [&]<class Number>(Number) {
      const auto part = [&](int i) {
        const at::Tensor& g = gradients[static_cast<std::size_t>(i)];
        return kernels::HeadGradients<Number>{static_cast<const Number*>(g.const_data_ptr()),
                                              g.stride(0), g.stride(1), g.stride(2)};
      };
      const kernels::RotaryGradient<Number> rotary{
          .sizes = sizes_of(qkv_NTJ, heads, cos_TR),
          .cos_TR = cos_TR.const_data_ptr<kernels::WideOf<Number>>(),
          .sin_TR = sin_TR.const_data_ptr<kernels::WideOf<Number>>(),
          .q = part(0),
          .k = part(1),
          .v = part(2),
          .qkv = static_cast<Number*>(qkv_NTJ.mutable_data_ptr())};
      over_tokens(qkv_NTJ, [&](const kernels::Place& place, std::int64_t begin, std::int64_t end) {
        kernels::rotate_gradient(place, rotary, begin, end);
      });
    });
    return {qkv_NTJ, at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static kernels::RotarySizes sizes_of(const at::Tensor& qkv_NTJ, std::int64_t heads,
                                       const at::Tensor& cos_TR) {
    return {.positions = qkv_NTJ.size(1),
            .heads = heads,
            .head_size = qkv_NTJ.size(2) / (3 * heads),
            .rotated = cos_TR.size(1)};
  }

  template <class Task>
  static void over_tokens(const at::Tensor& qkv_NTJ, const Task& task) {
    constexpr std::int64_t kNumbersOfATask = 1 << 14;
    const c10::DeviceGuard guard(qkv_NTJ.device());
    const kernels::Place place = tensor::place_of(qkv_NTJ.device());
    const std::int64_t tokens = qkv_NTJ.size(0) * qkv_NTJ.size(1);
    if (place.gpu) return task(place, 0, tokens);
    at::parallel_for(0, tokens, std::max<std::int64_t>(1, kNumbersOfATask / qkv_NTJ.size(2)),
                     [&](std::int64_t begin, std::int64_t end) { task(place, begin, end); });
  }
};

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

at::Tensor embed(const at::Tensor& weight_VD, const at::Tensor& ids_NT) {
  // A gradient of a row for each token is added to the dense one that is there; where there is
  // none, it would stay as it is.
  return at::embedding(weight_VD, ids_NT, /*padding_idx=*/-1, /*scale_grad_by_freq=*/false,
                       /*sparse=*/weight_VD.is_cpu() && weight_VD.grad().defined());
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

QueryKeyValue rotate_in_place(const at::Tensor& qkv_NTJ, std::int64_t heads,
                              const RotaryTable& table) {
  const auto parts = RotateInPlace::apply(qkv_NTJ, heads, table.cos_TR, table.sin_TR);
  return {parts[0], parts[1], parts[2]};
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
