#include "cresco/dictionaries/selection.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {

at::Tensor keep_largest_in_rows(const at::Tensor& code_BF, std::int64_t k) {
  const auto [values, features] = code_BF.topk(std::min(k, code_BF.size(1)), 1, /*largest=*/true,
                                               /*sorted=*/false);
  return at::zeros_like(code_BF).scatter(1, features, values);
}

at::Tensor keep_largest(const at::Tensor& code_BF, std::int64_t count) {
  const auto [values, places] = code_BF.flatten().topk(std::min(count, code_BF.numel()), 0,
                                                       /*largest=*/true, /*sorted=*/false);
  return at::zeros({code_BF.numel()}, code_BF.options())
      .scatter(0, places, values)
      .view(code_BF.sizes());
}

}  // namespace cresco::dictionaries
