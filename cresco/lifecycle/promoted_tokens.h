// Which tokens a feature's decoder direction promotes and suppresses: the largest and the lowest
// entries of W(s) . W_D[s,f].
//
// Large scores alone mean little: some tokens have long rows. So each list comes with the floor
// that directions of the same length reach by chance: the mean, over kFloorDirections random
// directions, of their highest score (of suppressed tokens: their lowest).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cresco::lifecycle {

inline constexpr int kFloorDirections = 32;

struct ScoredToken {
  std::int64_t token_id;
  double score;
};

struct TokenList {
  std::vector<ScoredToken> tokens;  // the strongest first
  double floor = 0;                 // below 0 for suppressed tokens
};

struct FeatureTokens {
  std::int64_t feature;
  TokenList promoted, suppressed;
};

// The lists of some features at one snapshot. matrix_VD is the snapshot as it is, decoder_FD its
// head; only the first `num_tokens` rows are tokens. `step` names the random directions.
std::vector<FeatureTokens> feature_tokens(const at::Tensor& matrix_VD, const at::Tensor& decoder_FD,
                                          const std::vector<std::int64_t>& features,
                                          std::int64_t num_tokens, std::int64_t count,
                                          std::uint64_t seed, std::int64_t step);

// At most five snapshots to look at a feature's tokens, in order: the first, the last, and between
// them those nearest to even distances on `tau` (log_time() of the steps), of which the nearest
// makes room for `peak`.
std::vector<std::int64_t> five_snapshots(const std::vector<double>& tau, std::int64_t peak);

}  // namespace cresco::lifecycle
