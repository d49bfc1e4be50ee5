// Which tokens a feature's decoder direction promotes: the largest entries of W(s) . W_D[s,f].
//
// Large scores alone mean little: some tokens have long rows. So each list comes with the floor
// that directions of the same length reach by chance: the mean, over kFloorDirections random
// directions, of their highest score.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cresco::lifecycle {

inline constexpr int kFloorDirections = 32;

struct PromotedToken {
  std::int64_t token_id;
  double score;
};

struct PromotedTokens {
  std::int64_t feature;
  std::vector<PromotedToken> tokens;  // best first
  double floor;
};

// The lists of some features at one snapshot. matrix_VD is the snapshot as it is, decoder_FD its
// head; only the first `num_tokens` rows are tokens. `step` names the random directions.
std::vector<PromotedTokens> promoted_tokens(const at::Tensor& matrix_VD,
                                            const at::Tensor& decoder_FD,
                                            const std::vector<std::int64_t>& features,
                                            std::int64_t num_tokens, std::int64_t count,
                                            std::uint64_t seed, std::int64_t step);

}  // namespace cresco::lifecycle
