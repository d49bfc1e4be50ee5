// The features of a dictionary as a population: how many are there at each snapshot.
#pragma once

#include "cresco/lifecycle/norm_lifecycle.h"

namespace cresco::lifecycle {

struct SnapshotPopulation {
  std::int64_t alive = 0;           // features with rho >= 0.5 here
  std::int64_t born = 0, died = 0;  // whose first, or last, snapshot this is
  double mean_rate = 0,
         median_norm = 0;  // over all features that are alive at some snapshot; NaN without any
};

// One per snapshot; `features` as norm_lifecycles() gives them.
std::vector<SnapshotPopulation> population(const at::Tensor& norms_KF, const at::Tensor& rates_KF,
                                           const std::vector<NormLifecycle>& features);

}  // namespace cresco::lifecycle
