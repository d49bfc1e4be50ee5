// Which features of a dictionary are alike over the whole trajectory: the cosine of their decoder
// rows, those of all heads side by side as one vector of K D numbers,
//   cos(f,g) = sum_k W_D[k,f] . W_D[k,g] / (|f| |g|),   |f|^2 = sum_k |W_D[k,f]|^2.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace cresco::lifecycle {

struct Neighbour {
  std::int64_t feature;
  double cosine;
};

// For each of `features`, in their order, the `count` nearest of the others among them, the nearest
// first; fewer when there are not so many. A feature whose rows are all zero has cosine 0 with
// everything. Each pair of blocks is multiplied once, in float32, so that only `block` x `block`
// cosines stand in memory. `done` is called after each pair of blocks with how many of how many
// there are; it may throw.
std::vector<std::vector<Neighbour>> nearest_features(
    const at::Tensor& decoder_KFD, const std::vector<std::int64_t>& features, std::int64_t count,
    const std::function<void(std::int64_t, std::int64_t)>& done = {}, std::int64_t block = 2048);

}  // namespace cresco::lifecycle
