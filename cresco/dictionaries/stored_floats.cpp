#include "cresco/dictionaries/stored_floats.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {

const std::vector<std::int64_t>& StoredFloats::shape(const std::string& name) const {
  return formats::tensor_named(tensors_, name, where_).shape;
}

at::Tensor StoredFloats::read(const std::string& name,
                              const std::vector<std::int64_t>& shape) const {
  const formats::StoredTensor& stored = formats::tensor_named(tensors_, name, where_);
  require(at::isFloatingType(tensor::scalar_type(stored.dtype)),
          "{}: '{}' holds {}, expected floating-point numbers", where_, name,
          formats::name_of(stored.dtype));
  require(stored.shape == shape, "{}: '{}' has shape {}, expected {}", where_, name,
          formats::shape_text(stored.shape), formats::shape_text(shape));
  read_.insert(name);
  if (numbers_ == Numbers::ShapesOnly)
    return at::empty(shape, at::TensorOptions(at::kFloat).device(at::kMeta));
  const at::Tensor t = tensor::to_tensor(stored).to(at::kFloat).contiguous();
  require(tensor::all_finite(t), "{}: '{}' holds a number that is not finite", where_, name);
  return t;
}

at::Tensor StoredFloats::heads(const std::string& name,
                               const std::vector<std::int64_t>& shape) const {
  if (shape[0] == 1 && this->shape(name).size() + 1 == shape.size())
    return read(name, {shape.begin() + 1, shape.end()}).unsqueeze(0);
  return read(name, shape);
}

at::Tensor StoredFloats::logarithms(const std::string& name,
                                    const std::vector<std::int64_t>& shape) const {
  const at::Tensor t = read(name, shape);
  require(numbers_ == Numbers::ShapesOnly || tensor::all_finite(t.exp()),
          "{}: '{}' holds {}, a logarithm of no finite number", where_, name,
          numbers_ == Numbers::ShapesOnly ? 0 : t.max().item<double>());
  return t;
}

void StoredFloats::require_all_read(const std::string& kind,
                                    std::initializer_list<std::string_view> others) const {
  for (const auto& view : tensors_) {
    const bool is_other = std::any_of(others.begin(), others.end(), [&](std::string_view other) {
      return other.ends_with('.') ? view.name.starts_with(other) : view.name == other;
    });
    require(is_other || read_.contains(view.name), "{}: tensor '{}' is no part of a {}", where_,
            escape_for_terminal(view.name), kind);
  }
}

}  // namespace cresco::dictionaries
