// How the features' firing rates are spread over orders of magnitude.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cresco::lifecycle {

inline constexpr int kBinsPerDecade = 4;

struct FiringDensity {
  std::int64_t never = 0;            // features with rate 0
  std::vector<std::int64_t> counts;  // counts[i]: features whose rate lies in bin i

  // log10 of a bin's lower edge; the bins end at 1, and a rate of 1 belongs to the last.
  double log10_from(std::size_t bin) const {
    return (static_cast<double>(bin) - static_cast<double>(counts.size())) / kBinsPerDecade;
  }
};

// `num_bins` bins of 1/kBinsPerDecade decades below a rate of 1; a lower rate counts in the first.
FiringDensity firing_density(const at::Tensor& rates_F, std::size_t num_bins);

// As many bins as the smallest rate above 0 needs.
std::size_t density_bins(const at::Tensor& rates);

}  // namespace cresco::lifecycle
