// What TopK and BatchTopK keep of their codes. Both are functions that autograd can go back
// through.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cresco::dictionaries {

// The k largest numbers of each row, or all where there are no more; zeros elsewhere.
at::Tensor keep_largest_in_rows(const at::Tensor& code_BF, std::int64_t k);

// The `count` largest numbers of the whole array, or all where there are no more; zeros elsewhere.
// Chosen by place: of equal numbers as many are kept as there is room for.
at::Tensor keep_largest(const at::Tensor& code_BF, std::int64_t count);

}  // namespace cresco::dictionaries
