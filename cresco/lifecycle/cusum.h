// Cumulative sums over the snapshots: how far a series departs from its mean, and whether any
// feature's firing rate breaks upward from its early values more than it would in another order.
#pragma once

#include "cresco/base/progress.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cresco::lifecycle {

// max over k of |sum over i <= k of (x[i,f] - mean of x[.,f])|: (F) of a series (K,F).
at::Tensor cusum_max(const at::Tensor& series_KF);

// Fewer snapshots have no baseline of three.
inline constexpr std::int64_t kLeastSnapshotsOfCusum = 9;

// The statistic and its null of permuted snapshots. The baseline of a feature is its first
// n = min(10, max(K / 3, 2)) rates: m their mean, s = 1.4826 median |r - median r|, at least the
// 25th percentile of all features' s that are not 0, and at least 1e-8. The statistic is the
// largest running sum of (r - m) / s, over all snapshots and features. For the null the K rates of
// each feature are permuted on their own and all of it is computed again.
// Medians are the lower of the middle two, percentiles interpolate linearly.
double cusum_break(const at::Tensor& rates_KF);

struct CusumNull {
  double observed = 0, p_value = 0;  // (1 + at least as large) / (1 + permutations)
  std::int64_t num_permutations = 0, num_at_least = 0;
  double mean = 0, deviation = 0, max = 0, p95 = 0, p99 = 0;  // of the null; deviation over n
};
// Error for fewer than kLeastSnapshotsOfCusum snapshots.
CusumNull cusum_null(const at::Tensor& rates_KF, std::int64_t num_permutations, std::uint64_t seed,
                     Progress& progress);

}  // namespace cresco::lifecycle
