#include "cresco/optim/newton_schulz.h"

#include <ATen/ATen.h>

namespace cresco::optim {
namespace {

at::Tensor of_one(const at::Tensor& u_RC, const NewtonSchulz& s) {
  const auto [a, b, c] = s.coefficients;
  const bool is_tall = u_RC.size(0) > u_RC.size(1);
  at::Tensor x = (is_tall ? u_RC.t() : u_RC).div(u_RC.norm().add(s.eps));
  for (std::int64_t i = 0; i < s.steps; ++i) {
    const at::Tensor gram = x.mm(x.t());
    x = at::addmm(x, at::addmm(gram, gram, gram, b, c), x, a);
  }
  return is_tall ? x.t() : x;
}

at::Tensor of_batch(const at::Tensor& u_BRC, const NewtonSchulz& s) {
  const auto [a, b, c] = s.coefficients;
  const bool is_tall = u_BRC.size(1) > u_BRC.size(2);
  at::Tensor x = is_tall ? u_BRC.transpose(1, 2) : u_BRC;
  x = x.div(at::linalg_vector_norm(x, 2, at::IntArrayRef({1, 2}), /*keepdim=*/true).add(s.eps))
          .to(at::kBFloat16);
  for (std::int64_t i = 0; i < s.steps; ++i) {
    const at::Tensor gram = x.bmm(x.transpose(1, 2));
    x = at::baddbmm(x, at::baddbmm(gram, gram, gram, b, c), x, a);
  }
  return is_tall ? x.transpose(1, 2) : x;
}

}  // namespace

at::Tensor newton_schulz(const at::Tensor& u_BRC, const NewtonSchulz& settings) {
  if (!u_BRC.device().is_cpu()) return of_batch(u_BRC, settings);
  at::Tensor out = at::empty_like(u_BRC);
  for (std::int64_t i = 0; i < u_BRC.size(0); ++i) out[i].copy_(of_one(u_BRC[i], settings));
  return out;
}

}  // namespace cresco::optim
