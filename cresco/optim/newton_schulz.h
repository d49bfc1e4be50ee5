// Newton and Schulz's iteration towards the nearest matrix with orthonormal rows or columns, with a
// quintic polynomial that grows small singular values fast rather than bringing all to 1.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace cresco::optim {

struct NewtonSchulz {
  std::array<double, 3> coefficients{3.4445, -4.7750, 2.0315};  // a, b, c
  std::int64_t steps = 5;
  double eps = 1e-7;
};

// For each matrix U (R, C) of a batch: X = U / (|U|_F + eps), transposed when R > C; `steps` times
//   A = X X^T;  X <- a X + (b A + c A^2) X
// so that X has U's singular vectors, and its singular values become p(p(...)), p(x) = a x + b x^3
// + c x^5; with these coefficients and 5 steps those from 0.003 to 1 (of |U|_F) lie in [0.68, 1.2].
// 5 (4 r^2 c + 2 r^3) operations a matrix, r = min(R, C), c = max(R, C).
//
// On a GPU the products are bf16 with sums in float, as in the published implementations, a batch
// at a time; the result is bf16. On a CPU they are of the batch's own type (float), one matrix
// after the other: each product fills the cores, and no matrix's result depends on its neighbours.
at::Tensor newton_schulz(const at::Tensor& u_BRC, const NewtonSchulz& settings = {});

}  // namespace cresco::optim
