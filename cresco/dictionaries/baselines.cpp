#include "cresco/dictionaries/baselines.h"

#include "cresco/base/random.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {
namespace {

// action(rows about the exact column means, first row), in double or rounded to float.
template <class Action>
void for_centred_blocks(const StackRows& rows, std::int64_t k, at::ScalarType dtype,
                        const Action& action) {
  const at::Tensor& mean_D = rows.moments(k).mean_D();
  rows.for_raw_blocks(k, [&](const at::Tensor& raw_BD, std::int64_t first) {
    action((raw_BD.to(at::kDouble) - mean_D).to(dtype), first);
  });
}

at::Tensor normal_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                         std::int64_t instance) {
  at::Tensor out = at::empty({rows, columns});
  RandomStream(seed, "baselines/sketch", static_cast<std::uint64_t>(instance))
      .fill_normal({out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel())}, 0, 1);
  return out;
}

at::Tensor orthonormal(const at::Tensor& y_VM) {
  return std::get<0>(at::linalg_qr(y_VM.to(at::kDouble))).to(at::kFloat);
}

// Y = sum over k of X_k P_k, with P_k made when it is wanted.
template <class Projection>
at::Tensor project(const StackRows& rows, std::int64_t columns, const Projection& projection) {
  at::Tensor y_VM = at::zeros({rows.num_rows(), columns});
  for (std::int64_t k = 0; k < rows.num_heads(); ++k) {
    const at::Tensor p_DM = projection(k);
    for_centred_blocks(rows, k, at::kFloat, [&](const at::Tensor& x_BD, std::int64_t first) {
      y_VM.narrow(0, first, x_BD.size(0)).addmm_(x_BD, p_DM);
    });
  }
  return y_VM;
}

// X_k^T Q, (D,M).
at::Tensor project_back(const StackRows& rows, std::int64_t k, const at::Tensor& q_VM) {
  at::Tensor z_DM = at::zeros({rows.width(), q_VM.size(1)});
  for_centred_blocks(rows, k, at::kFloat, [&](const at::Tensor& x_BD, std::int64_t first) {
    z_DM.addmm_(x_BD.t(), q_VM.narrow(0, first, x_BD.size(0)));
  });
  return z_DM;
}

Spread spread_of(const at::Tensor& values_V) {
  const auto at_share = [&](double share) { return values_V.quantile(share).item<double>(); };
  return {values_V.mean().item<double>(), values_V.numel() > 1 ? values_V.std().item<double>() : 0,
          at_share(0.1), at_share(0.5), at_share(0.9)};
}

}  // namespace

double Spectrum::explained_variance(std::int64_t rank) const {
  const std::int64_t first = std::min(rank, squared_N.size(0));
  return total > 0 ? squared_N.narrow(0, 0, first).sum().item<double>() / total : 0;
}

Spectrum snapshot_spectrum(const StackRows& rows, std::int64_t k) {
  at::Tensor gram_DD = at::zeros({rows.width(), rows.width()}, at::kDouble);
  for_centred_blocks(rows, k, at::kDouble,
                     [&](const at::Tensor& x_BD, std::int64_t) { gram_DD.addmm_(x_BD.t(), x_BD); });
  return {at::linalg_eigvalsh(gram_DD).flip(0).clamp_min(0), rows.moments(k).about_columns()};
}

Spectrum randomized_spectrum(const StackRows& rows, std::uint64_t seed, std::int64_t sketch) {
  const std::int64_t M = std::min({sketch, rows.num_rows(), rows.num_heads() * rows.width()});
  at::Tensor q_VM = orthonormal(
      project(rows, M, [&](std::int64_t k) { return normal_matrix(rows.width(), M, seed, k); }));
  q_VM = orthonormal(project(rows, M, [&](std::int64_t k) { return project_back(rows, k, q_VM); }));
  at::Tensor gram_MM = at::zeros({M, M}, at::kDouble);  // of B = Q^T A
  double total = 0;
  for (std::int64_t k = 0; k < rows.num_heads(); ++k) {
    const at::Tensor b_DM = project_back(rows, k, q_VM).to(at::kDouble);
    gram_MM.addmm_(b_DM.t(), b_DM);
    total += rows.moments(k).about_columns();
  }
  return {at::linalg_eigvalsh(gram_MM).flip(0).clamp_min(0), total};
}

std::vector<EndpointLine> endpoint_lines(const StackRows& rows) {
  constexpr double kLeast = 1e-12;
  const std::int64_t V = rows.num_rows(), K = rows.num_heads();
  at::Tensor alpha_KV = at::empty({K, V}, at::kDouble), error_KV = at::empty({K, V}, at::kDouble);
  at::Tensor deviation_KV = at::empty({K, V}, at::kDouble);
  const std::int64_t block = rows_of_block(rows.block_bytes(), 8 * 8 * rows.width());
  for (std::int64_t v = 0; v < V; v += block) {
    const std::int64_t count = std::min(block, V - v);
    const auto raw = [&](std::int64_t k) { return rows.raw(k, v, count).to(at::kDouble); };
    const at::Tensor first_BD = raw(0), way_BD = raw(K - 1) - first_BD;
    const at::Tensor length_B = way_BD.square().sum(1).clamp_min(kLeast);
    for (std::int64_t k = 0; k < K; ++k) {
      const at::Tensor x_BD = raw(k);
      const at::Tensor alpha_B = ((x_BD - first_BD) * way_BD).sum(1) / length_B;
      const at::Tensor error_BD = first_BD + alpha_B.unsqueeze(1) * way_BD - x_BD;
      alpha_KV[k].narrow(0, v, count).copy_(alpha_B);
      error_KV[k].narrow(0, v, count).copy_(error_BD.square().sum(1));
      deviation_KV[k].narrow(0, v, count).copy_((x_BD - rows.moments(k).mean_D()).square().sum(1));
    }
  }
  std::vector<EndpointLine> lines;
  for (std::int64_t k = 0; k < K; ++k) {
    const double deviation = deviation_KV[k].sum().item<double>();
    lines.push_back({deviation > 0 ? 1 - error_KV[k].sum().item<double>() / deviation : 0,
                     spread_of(1 - error_KV[k] / deviation_KV[k].clamp_min(kLeast)),
                     spread_of(alpha_KV[k])});
  }
  return lines;
}

}  // namespace cresco::dictionaries
