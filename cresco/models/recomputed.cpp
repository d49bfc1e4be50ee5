#include "cresco/models/recomputed.h"

#include "cresco/tensor/autocast.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace cresco::models {
namespace {

struct SavedPart : torch::CustomClassHolder {
  SavedPart(Part part, at::ScalarType dtype) : part(std::move(part)), dtype(dtype) {}
  Part part;
  at::ScalarType dtype;  // of autocast
};

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& /*has_gradient*/,
                            const c10::intrusive_ptr<SavedPart>& saved) {
    context->save_for_backward({x});
    context->saved_data["part"] = c10::IValue::make_capsule(saved);
    return saved->part(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto& saved = static_cast<const SavedPart&>(*context->saved_data["part"].toCapsule());
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const torch::autograd::AutoGradMode with_gradients(true);
    const at::Tensor out = [&] {
      const tensor::Autocast autocast(x.device(), saved.dtype);
      return saved.part(x);
    }();
    torch::autograd::backward({out}, gradients);
    return {x.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(Part part, const at::Tensor& x) {
  // Parts whose weights alone have gradients are in the graph, too.
  const at::Tensor has_gradient = at::empty({0}, x.options()).requires_grad_(true);
  return Recomputed::apply(
      x, has_gradient,
      c10::make_intrusive<SavedPart>(std::move(part), tensor::autocast_dtype(x.device())));
}

}  // namespace cresco::models
