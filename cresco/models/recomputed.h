// Memory for time in the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace cresco::models {

using Part = std::function<at::Tensor(const at::Tensor&)>;

// part(x), with x alone kept for the backward pass, in which `part` is computed again, under the
// autocast of the first time (Chen et al. 2016, "Training deep nets with sublinear memory cost").
// Beside x only leaves of the graph may have gradients; they get the same bits as without.
at::Tensor recomputed(Part part, const at::Tensor& x);

}  // namespace cresco::models
