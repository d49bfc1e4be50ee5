#include "cresco/lifecycle/neighbours.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::lifecycle {
namespace {

// The nearest so far of the rows of one block; places are those in `features`.
struct Nearest {
  at::Tensor cosine_BC, place_BC;  // -1 where there is none yet

  void take(const at::Tensor& cosine_BN, std::int64_t first_place) {
    const std::int64_t count = cosine_BC.size(1);
    const auto [cosine, column] =
        cosine_BN.topk(std::min(count, cosine_BN.size(1)), 1, /*largest=*/true);
    const at::Tensor all = at::cat({cosine_BC, cosine}, 1);
    const at::Tensor places = at::cat({place_BC, column + first_place}, 1);
    const auto [best, kept] = all.topk(count, 1, /*largest=*/true);
    cosine_BC = best;
    place_BC = places.gather(1, kept);
  }
};

}  // namespace

std::vector<std::vector<Neighbour>> nearest_features(
    const at::Tensor& decoder_KFD, const std::vector<std::int64_t>& features, std::int64_t count,
    const std::function<void(std::int64_t, std::int64_t)>& done, std::int64_t block) {
  const auto K = decoder_KFD.size(0), F = static_cast<std::int64_t>(features.size());
  count = std::min(count, F - 1);
  std::vector<std::vector<Neighbour>> all(features.size());
  if (count < 1) return all;

  const at::Device device = decoder_KFD.device();
  const at::Tensor index_F = at::tensor(features, at::kLong).to(device);
  const auto index_of = [&](std::int64_t b) {
    return index_F.narrow(0, b * block, std::min(block, F - b * block));
  };
  at::Tensor squares_F = at::zeros({F}, decoder_KFD.options().dtype(at::kDouble));
  for (std::int64_t k = 0; k < K; ++k)
    squares_F += at::linalg_vector_norm(decoder_KFD[k], 2, {-1}, false, at::kDouble)
                     .index_select(0, index_F)
                     .square();
  const at::Tensor scale_F = (1 / squares_F.sqrt().clamp_min(1e-30)).to(at::kFloat);
  const auto scale_of = [&](std::int64_t b) {
    return scale_F.narrow(0, b * block, std::min(block, F - b * block));
  };

  const std::int64_t num_blocks = (F + block - 1) / block;
  std::vector<Nearest> nearest;
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const auto B = index_of(b).size(0);
    nearest.push_back({at::full({B, count}, -2, decoder_KFD.options().dtype(at::kFloat)),
                       at::full({B, count}, -1, index_F.options())});
  }
  std::int64_t num_done = 0;
  for (std::int64_t a = 0; a < num_blocks; ++a)
    for (std::int64_t b = a; b < num_blocks; ++b) {
      at::Tensor cosine = at::zeros({index_of(a).size(0), index_of(b).size(0)}, scale_F.options());
      for (std::int64_t k = 0; k < K; ++k) {
        const at::Tensor rows_FD = decoder_KFD[k].to(at::kFloat);
        const at::Tensor left = rows_FD.index_select(0, index_of(a));
        cosine.addmm_(left, (a == b ? left : rows_FD.index_select(0, index_of(b))).t());
      }
      cosine.mul_(scale_of(a).unsqueeze(1)).mul_(scale_of(b).unsqueeze(0));
      if (a == b) cosine.fill_diagonal_(-2);  // nobody is their own neighbour
      nearest[static_cast<std::size_t>(a)].take(cosine, b * block);
      if (a != b) nearest[static_cast<std::size_t>(b)].take(cosine.t(), a * block);
      if (done) done(++num_done, num_blocks * (num_blocks + 1) / 2);
    }

  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const Nearest& mine = nearest[static_cast<std::size_t>(b)];
    const at::Tensor cosines = mine.cosine_BC.to(at::kCPU), places = mine.place_BC.to(at::kCPU);
    const auto cosine = cosines.accessor<float, 2>();
    const auto place = places.accessor<std::int64_t, 2>();
    for (std::int64_t row = 0; row < cosines.size(0); ++row)
      for (std::int64_t r = 0; r < count; ++r)
        all[static_cast<std::size_t>(b * block + row)].push_back(
            {features[static_cast<std::size_t>(place[row][r])],
             std::clamp<double>(cosine[row][r], -1, 1)});
  }
  return all;
}

}  // namespace cresco::lifecycle
