// For tests only: small stacks with known structure.
#pragma once

#include "cresco/base/random.h"
#include "cresco/trajectories/stack.h"

#include <ATen/ATen.h>

#include <vector>

namespace cresco::dictionaries::toy {

inline at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed, std::string_view purpose) {
  at::Tensor out = at::empty(shape);
  RandomStream(seed, purpose)
      .fill_normal({out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel())}, 0, 1);
  return out;
}

// A stack of these matrices at steps 0, 100, 200, ... or the given ones.
inline void write_stack(const Path& path, const std::vector<at::Tensor>& matrices,
                        std::vector<std::int64_t> steps = {}) {
  trajectories::StackInfo info{"toy/model", "W_U", std::move(steps)};
  while (info.steps.size() < matrices.size())
    info.steps.push_back(static_cast<std::int64_t>(info.steps.size()) * 100);
  trajectories::write_stack(path, info, matrices);
}

// Rows are sums of three of 16 Gaussian atoms, with loadings of random sign and size 0.5 to 1.5,
// plus noise of 0.05; from the first snapshot to the last everything grows from 0.8 to 1.2 times
// that.
struct Planted {
  at::Tensor atoms_AD;
  std::vector<at::Tensor> matrices;
  std::vector<double> growth;

  explicit Planted(std::uint64_t seed, std::int64_t K = 8, std::int64_t V = 256,
                   std::int64_t D = 64) {
    constexpr std::int64_t kAtoms = 16, kPerRow = 3;
    atoms_AD = normal({kAtoms, D}, seed, "atoms");
    at::Tensor loadings_VA = at::zeros({V, kAtoms});
    for (std::int64_t v = 0; v < V; ++v) {
      RandomStream random(seed, "loadings", static_cast<std::uint64_t>(v));
      for (std::int64_t chosen = 0; chosen < kPerRow;) {
        at::Tensor loading = loadings_VA[v][static_cast<std::int64_t>(random.below(kAtoms))];
        if (loading.item<float>() != 0) continue;
        loading.fill_((0.5 + random.uniform()) * (random.below(2) ? 1 : -1));
        ++chosen;
      }
    }
    for (std::int64_t k = 0; k < K; ++k) {
      growth.push_back(0.8 + 0.4 * static_cast<double>(k) / static_cast<double>(K - 1));
      matrices.push_back(growth.back() * loadings_VA.mm(atoms_AD) +
                         0.05 * normal({V, D}, seed, "noise" + std::to_string(k)));
    }
  }
};

}  // namespace cresco::dictionaries::toy
