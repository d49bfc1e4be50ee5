#include "cresco/lifecycle/promoted_tokens.h"

#include "cresco/base/random.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::lifecycle {
namespace {

// Uniform on the unit sphere, as rows.
at::Tensor random_directions(std::int64_t count, std::int64_t width, std::uint64_t seed,
                             std::int64_t step) {
  at::Tensor directions = at::empty({count, width});
  RandomStream(seed, "promoted_tokens/floor", static_cast<std::uint64_t>(step))
      .fill_normal(
          {directions.mutable_data_ptr<float>(), static_cast<std::size_t>(directions.numel())}, 0,
          1);
  return directions / at::linalg_vector_norm(directions, 2, {-1}, /*keepdim=*/true);
}

// The `count` strongest of each row; the strongest are the largest, or the lowest.
std::vector<TokenList> strongest(const at::Tensor& scores_FV, std::int64_t count, bool largest) {
  const auto [scores, ids] = scores_FV.topk(count, 1, largest);
  const at::Tensor scores_cpu = scores.to(at::kCPU), ids_cpu = ids.to(at::kCPU);
  const auto score = scores_cpu.accessor<float, 2>();
  const auto id = ids_cpu.accessor<std::int64_t, 2>();
  std::vector<TokenList> lists(static_cast<std::size_t>(scores_FV.size(0)));
  for (std::int64_t row = 0; row < scores_FV.size(0); ++row)
    for (std::int64_t r = 0; r < count; ++r)
      lists[static_cast<std::size_t>(row)].tokens.push_back({id[row][r], score[row][r]});
  return lists;
}

}  // namespace

std::vector<FeatureTokens> feature_tokens(const at::Tensor& matrix_VD, const at::Tensor& decoder_FD,
                                          const std::vector<std::int64_t>& features,
                                          std::int64_t num_tokens, std::int64_t count,
                                          std::uint64_t seed, std::int64_t step) {
  const at::Tensor tokens_VD = matrix_VD.narrow(0, 0, std::min(num_tokens, matrix_VD.size(0)));
  const at::Tensor chance_RV = random_directions(kFloorDirections, matrix_VD.size(1), seed, step)
                                   .to(matrix_VD.device())
                                   .mm(tokens_VD.t());
  const double highest = chance_RV.amax(1).mean().item<double>(),
               lowest = chance_RV.amin(1).mean().item<double>();
  count = std::min(count, tokens_VD.size(0));

  std::vector<FeatureTokens> all;
  constexpr std::size_t kBlock = 256;
  for (std::size_t begin = 0; begin < features.size(); begin += kBlock) {
    const std::vector<std::int64_t> block(
        features.begin() + static_cast<std::ptrdiff_t>(begin),
        features.begin() + static_cast<std::ptrdiff_t>(std::min(begin + kBlock, features.size())));
    const at::Tensor rows_FD =
        decoder_FD.index_select(0, at::tensor(block, at::kLong).to(decoder_FD.device()));
    const at::Tensor norms_F = at::linalg_vector_norm(rows_FD, 2, {-1}).to(at::kCPU);
    const at::Tensor scores_FV = rows_FD.mm(tokens_VD.t());
    std::vector<TokenList> promoted = strongest(scores_FV, count, true),
                           suppressed = strongest(scores_FV, count, false);
    for (std::size_t i = 0; i < block.size(); ++i) {
      const double norm = norms_F[static_cast<std::int64_t>(i)].item<double>();
      promoted[i].floor = highest * norm;
      suppressed[i].floor = lowest * norm;
      all.push_back({block[i], std::move(promoted[i]), std::move(suppressed[i])});
    }
  }
  return all;
}

std::vector<std::int64_t> five_snapshots(const std::vector<double>& tau, std::int64_t peak) {
  constexpr int kMost = 5;
  const auto K = static_cast<std::int64_t>(tau.size());
  std::vector<std::int64_t> chosen;
  if (K <= kMost) {
    for (std::int64_t k = 0; k < K; ++k) chosen.push_back(k);
    return chosen;
  }
  const auto distance = [&](std::int64_t k, double at) {
    return std::abs(tau[static_cast<std::size_t>(k)] - at);
  };
  for (int i = 1; i < kMost - 1; ++i) {
    const double at = static_cast<double>(i) / (kMost - 1);
    std::int64_t nearest = -1;
    for (std::int64_t k = 1; k < K - 1; ++k) {
      if (std::find(chosen.begin(), chosen.end(), k) != chosen.end()) continue;
      if (nearest < 0 || distance(k, at) < distance(nearest, at)) nearest = k;
    }
    chosen.push_back(nearest);
  }
  if (peak > 0 && peak < K - 1) {
    const double at = tau[static_cast<std::size_t>(peak)];
    *std::min_element(chosen.begin(), chosen.end(), [&](std::int64_t a, std::int64_t b) {
      return distance(a, at) < distance(b, at);
    }) = peak;
  }
  chosen.push_back(0);
  chosen.push_back(K - 1);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace cresco::lifecycle
