#include "cresco/lifecycle/firing_density.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::lifecycle {
namespace {

// How many bins below a rate of 1: 1 for [10^-0.25, 1].
std::int64_t bins_down_to(double rate) {
  // Rounding must not move a rate that stands on an edge.
  const double below = -std::log10(rate) * kBinsPerDecade;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(below - 1e-9)));
}

}  // namespace

FiringDensity firing_density(const at::Tensor& rates_F, std::size_t num_bins) {
  FiringDensity density{0, std::vector<std::int64_t>(num_bins)};
  const at::Tensor rates = rates_F.to(at::kCPU, at::kDouble).contiguous();
  const double* const rate = rates.const_data_ptr<double>();
  for (std::int64_t f = 0; f < rates.numel(); ++f) {
    if (rate[f] <= 0) {
      ++density.never;
    } else if (num_bins > 0) {
      const auto below = std::min(bins_down_to(rate[f]), static_cast<std::int64_t>(num_bins));
      ++density.counts[num_bins - static_cast<std::size_t>(below)];
    }
  }
  return density;
}

std::size_t density_bins(const at::Tensor& rates) {
  const at::Tensor positive = rates.masked_select(rates > 0);
  if (positive.numel() == 0) return 0;
  return static_cast<std::size_t>(bins_down_to(positive.min().item<double>()));
}

}  // namespace cresco::lifecycle
