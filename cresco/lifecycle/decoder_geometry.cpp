#include "cresco/lifecycle/decoder_geometry.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::lifecycle {
namespace {

// A head at a time, in double: 1 - cos of every row of a with that of b.
at::Tensor one_minus_cos(const at::Tensor& a_FD, const at::Tensor& b_FD) {
  const at::Tensor a = a_FD.to(at::kDouble), b = b_FD.to(at::kDouble);
  const at::Tensor norms_F =
      at::linalg_vector_norm(a, 2, {-1}) * at::linalg_vector_norm(b, 2, {-1});
  return 1 - (a * b).sum(-1) / (norms_F + 1e-12);
}

}  // namespace

at::Tensor decoder_norms(const at::Tensor& decoder_KFD) {
  std::vector<at::Tensor> norms;
  for (std::int64_t k = 0; k < decoder_KFD.size(0); ++k)
    norms.push_back(at::linalg_vector_norm(decoder_KFD[k].to(at::kDouble), 2, {-1}));
  return at::stack(norms).to(at::kCPU);
}

at::Tensor adjacent_rotation(const at::Tensor& decoder_KFD) {
  std::vector<at::Tensor> rotations;
  for (std::int64_t k = 0; k + 1 < decoder_KFD.size(0); ++k)
    rotations.push_back(one_minus_cos(decoder_KFD[k], decoder_KFD[k + 1]));
  if (rotations.empty()) return at::zeros({0, decoder_KFD.size(1)}, at::kDouble);
  return at::stack(rotations).to(at::kCPU);
}

at::Tensor distance_to_terminal(const at::Tensor& decoder_KFD) {
  std::vector<at::Tensor> distances;
  for (std::int64_t k = 0; k < decoder_KFD.size(0); ++k)
    distances.push_back(one_minus_cos(decoder_KFD[k], decoder_KFD[-1]));
  return at::stack(distances).to(at::kCPU);
}

at::Tensor firing_rates(const dictionaries::Crosscoder& crosscoder, const at::Tensor& x_VKD) {
  const auto V = x_VKD.size(0), K = x_VKD.size(1), F = crosscoder.parameters().num_features();
  at::Tensor num_open_KF = at::zeros({K, F}, x_VKD.options().dtype(at::kLong));
  const std::int64_t block =
      crosscoder.whole_slices(std::clamp<std::int64_t>((std::int64_t{16} << 20) / F, 1, V));
  for (std::int64_t v = 0; v < V; v += block) {
    const at::Tensor p_BF = crosscoder.pre_activation(x_VKD.narrow(0, v, std::min(block, V - v)));
    for (std::int64_t k = 0; k < K; ++k) num_open_KF[k].add_(crosscoder.open(p_BF, k).sum(0));
  }
  return (num_open_KF.to(at::kDouble) / static_cast<double>(V)).to(at::kCPU);
}

}  // namespace cresco::lifecycle
