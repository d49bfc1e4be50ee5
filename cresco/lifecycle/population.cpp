#include "cresco/lifecycle/population.h"

#include <ATen/ATen.h>

#include <limits>

namespace cresco::lifecycle {

std::vector<SnapshotPopulation> population(const at::Tensor& norms_KF, const at::Tensor& rates_KF,
                                           const std::vector<NormLifecycle>& features) {
  std::vector<std::int64_t> living;
  std::vector<SnapshotPopulation> all(static_cast<std::size_t>(norms_KF.size(0)));
  for (std::size_t f = 0; f < features.size(); ++f) {
    if (!features[f].alive) continue;
    living.push_back(static_cast<std::int64_t>(f));
    if (features[f].born) ++all[static_cast<std::size_t>(*features[f].born)].born;
    if (features[f].died) ++all[static_cast<std::size_t>(*features[f].died)].died;
  }
  if (living.empty()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (SnapshotPopulation& snapshot : all) snapshot.mean_rate = snapshot.median_norm = nan;
    return all;
  }
  const at::Tensor columns = at::tensor(living, at::kLong);
  const at::Tensor norms_KL = norms_KF.index_select(1, columns),
                   rates_KL = rates_KF.index_select(1, columns);
  const at::Tensor peaks_L = norms_KL.amax(0);
  for (std::size_t k = 0; k < all.size(); ++k) {
    const at::Tensor norms_L = norms_KL[static_cast<std::int64_t>(k)];
    all[k].alive = (norms_L / peaks_L).ge(kAliveLevel).sum().item<std::int64_t>();
    all[k].mean_rate = rates_KL[static_cast<std::int64_t>(k)].mean().item<double>();
    all[k].median_norm = norms_L.quantile(0.5).item<double>();
  }
  return all;
}

}  // namespace cresco::lifecycle
