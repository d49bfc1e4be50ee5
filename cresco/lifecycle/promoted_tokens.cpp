#include "cresco/lifecycle/promoted_tokens.h"

#include "cresco/base/random.h"

#include <ATen/ATen.h>

#include <algorithm>

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

}  // namespace

std::vector<PromotedTokens> promoted_tokens(const at::Tensor& matrix_VD,
                                            const at::Tensor& decoder_FD,
                                            const std::vector<std::int64_t>& features,
                                            std::int64_t num_tokens, std::int64_t count,
                                            std::uint64_t seed, std::int64_t step) {
  const at::Tensor tokens_VD = matrix_VD.narrow(0, 0, std::min(num_tokens, matrix_VD.size(0)));
  const at::Tensor chance_RD =
      random_directions(kFloorDirections, matrix_VD.size(1), seed, step).to(matrix_VD.device());
  const double unit_floor = chance_RD.mm(tokens_VD.t()).amax(1).mean().item<double>();
  count = std::min(count, tokens_VD.size(0));

  std::vector<PromotedTokens> all;
  constexpr std::size_t kBlock = 256;
  for (std::size_t begin = 0; begin < features.size(); begin += kBlock) {
    const std::vector<std::int64_t> block(
        features.begin() + static_cast<std::ptrdiff_t>(begin),
        features.begin() + static_cast<std::ptrdiff_t>(std::min(begin + kBlock, features.size())));
    const at::Tensor rows_FD =
        decoder_FD.index_select(0, at::tensor(block, at::kLong).to(decoder_FD.device()));
    const at::Tensor norms_F = at::linalg_vector_norm(rows_FD, 2, {-1}).to(at::kCPU);
    const auto [scores, ids] = rows_FD.mm(tokens_VD.t()).topk(count, 1);
    const at::Tensor scores_cpu = scores.to(at::kCPU), ids_cpu = ids.to(at::kCPU);
    const auto score = scores_cpu.accessor<float, 2>();
    const auto id = ids_cpu.accessor<std::int64_t, 2>();
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      PromotedTokens promoted{block[i], {}, unit_floor * norms_F[row].item<double>()};
      for (std::int64_t r = 0; r < count; ++r)
        promoted.tokens.push_back({id[row][r], score[row][r]});
      all.push_back(std::move(promoted));
    }
  }
  return all;
}

}  // namespace cresco::lifecycle
