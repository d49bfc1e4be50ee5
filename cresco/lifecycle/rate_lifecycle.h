// The life of a feature by how often it fires.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace cresco::lifecycle {

// A feature is active at a snapshot where rate > max(floor, alpha peak).
struct RateRule {
  double alpha = 0.10, floor = 1e-4;
  std::int64_t consecutive = 2;                              // for first_active
  double rate_tolerance = 0.20, direction_tolerance = 0.05;  // for stabilized
};

// Indices of snapshots; K stands for "never".
struct RateLifecycle {
  std::int64_t first_active;  // the first of `consecutive` active snapshots in a row
  std::int64_t peak;          // the latest of the snapshots with the highest rate
  double lifetime;  // share of snapshots at which it is active; 0 when its peak is below floor
  // The first snapshot from which on rate and direction stay near their last values:
  // |rate - r| < rate_tolerance r + 1e-12, r the median over the last quarter, and direction below
  // direction_tolerance.
  std::int64_t stabilized;
  double
      drift;  // mean adjacent rotation from first_active on, weighted by sqrt(N N'); NaN when never
};

// rates_KF and norms_KF (K,F), rotation_JF (K-1,F). direction is either the distance to the last
// snapshot's direction (K,F) or the rotation itself (K-1,F), which lets the last snapshot pass.
std::vector<RateLifecycle> rate_lifecycles(const at::Tensor& rates_KF, const at::Tensor& norms_KF,
                                           const at::Tensor& rotation_JF,
                                           const at::Tensor& direction, const RateRule& rule = {});

// Pearson's correlation, over all features and pairs of neighbouring snapshots, of how far a firing
// rate moves with how far the decoder row turns: |rate[k+1,f] - rate[k,f]| and rotation[k,f]. NaN
// when one of them is the same everywhere.
double rate_rotation_correlation(const at::Tensor& rates_KF, const at::Tensor& rotation_JF);

}  // namespace cresco::lifecycle
