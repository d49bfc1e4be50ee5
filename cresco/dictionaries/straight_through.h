// A step that has a gradient: 1 where x > 0, else 0; backwards it is the sigmoid, s (1 - s) with
// s = 1/(1 + exp(-x)).
//
// A gate on z at theta of width w is step((z - theta)/w). By the product rule the code
// a = z step((z - theta)/w) has da/dz = [z > theta] + z s (1 - s)/w and da/dtheta = -z s (1 - s)/w.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::dictionaries {

at::Tensor step_with_sigmoid_gradient(const at::Tensor& x);

}  // namespace cresco::dictionaries
