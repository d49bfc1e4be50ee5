#include "cresco/dictionaries/straight_through.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace cresco::dictionaries {
namespace {

struct StepWithSigmoidGradient : torch::autograd::Function<StepWithSigmoidGradient> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    return x.gt(0).to(x.scalar_type());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list upstream) {
    const at::Tensor s = context->get_saved_variables()[0].sigmoid();
    return {upstream[0] * s * (1 - s)};
  }
};

}  // namespace

at::Tensor step_with_sigmoid_gradient(const at::Tensor& x) {
  return StepWithSigmoidGradient::apply(x);
}

}  // namespace cresco::dictionaries
