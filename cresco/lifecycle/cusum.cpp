#include "cresco/lifecycle/cusum.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/threads.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace cresco::lifecycle {
namespace {

// The q-th quantile of sorted values, between neighbours in proportion.
double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const double low = sorted[below], high = sorted[std::min(below + 1, sorted.size() - 1)];
  return low + (at - static_cast<double>(below)) * (high - low);
}

double lower_median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Baseline {
  double mean = 0, deviation = 0;
};

Baseline baseline_of(const double* rates, std::int64_t n, std::vector<double>& values) {
  values.assign(rates, rates + n);
  double sum = 0;
  for (const double rate : values) sum += rate;
  const double median = lower_median(values);
  for (double& value : values) value = std::abs(value - median);
  return {sum / static_cast<double>(n), 1.4826 * lower_median(values)};
}

// Each feature's K rates stand together.
double statistic(const std::vector<double>& rates, std::int64_t K) {
  const std::int64_t F = static_cast<std::int64_t>(rates.size()) / K;
  const std::int64_t n = std::min<std::int64_t>(10, std::max<std::int64_t>(K / 3, 2));
  std::vector<Baseline> baselines;
  std::vector<double> deviations, values;
  for (std::int64_t f = 0; f < F; ++f) {
    baselines.push_back(baseline_of(rates.data() + f * K, n, values));
    if (baselines.back().deviation > 0) deviations.push_back(baselines.back().deviation);
  }
  std::sort(deviations.begin(), deviations.end());
  const double floor = std::max(deviations.empty() ? 0 : quantile(deviations, 0.25), 1e-8);
  double largest = -std::numeric_limits<double>::infinity();
  for (std::int64_t f = 0; f < F; ++f) {
    const Baseline& b = baselines[static_cast<std::size_t>(f)];
    const double scale = 1 / std::max(b.deviation, floor);
    double sum = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      sum += (rates[static_cast<std::size_t>(f * K + k)] - b.mean) * scale;
      largest = std::max(largest, sum);
    }
  }
  return largest;
}

std::vector<double> by_feature(const at::Tensor& rates_KF) {
  const at::Tensor rows = rates_KF.to(at::kCPU, at::kDouble).t().contiguous();
  const double* const first = rows.const_data_ptr<double>();
  return {first, first + rows.numel()};
}

}  // namespace

at::Tensor cusum_max(const at::Tensor& series_KF) {
  if (series_KF.size(0) == 0) return at::zeros({series_KF.size(1)}, at::TensorOptions(at::kDouble));
  const at::Tensor x = series_KF.to(at::kDouble);
  return (x - x.mean(0)).cumsum(0).abs().amax(0);
}

double cusum_break(const at::Tensor& rates_KF) {
  return statistic(by_feature(rates_KF), rates_KF.size(0));
}

CusumNull cusum_null(const at::Tensor& rates_KF, std::int64_t num_permutations, std::uint64_t seed,
                     Progress& progress) {
  const std::int64_t K = rates_KF.size(0);
  require(K >= kLeastSnapshotsOfCusum, "{} snapshots: the null of cumulative sums needs {} or more",
          K, kLeastSnapshotsOfCusum);
  require(num_permutations >= 1, "{} permutations, expected 1 or more", num_permutations);
  const std::vector<double> rates = by_feature(rates_KF);
  std::vector<double> null(static_cast<std::size_t>(num_permutations));
  // In pieces, so that the observer hears of it.
  const std::int64_t piece = std::max<std::int64_t>(1, num_permutations / 100);
  progress.begin("cusum null", num_permutations, "permutation");
  for (std::int64_t begin = 0; begin < num_permutations; begin += piece) {
    const std::int64_t count = std::min(piece, num_permutations - begin);
    parallel_for(count, [&](std::int64_t i) {
      RandomStream random(seed, "lifecycle/cusum_null", static_cast<std::uint64_t>(begin + i));
      std::vector<double> permuted = rates;
      for (std::size_t f = 0; f < permuted.size(); f += static_cast<std::size_t>(K))
        for (std::int64_t k = K - 1; k > 0; --k)
          std::swap(permuted[f + static_cast<std::size_t>(k)],
                    permuted[f + random.below(static_cast<std::uint64_t>(k) + 1)]);
      null[static_cast<std::size_t>(begin + i)] = statistic(permuted, K);
    });
    progress.update(begin + count, "");
  }
  progress.end();

  CusumNull out{.observed = statistic(rates, K), .num_permutations = num_permutations};
  std::sort(null.begin(), null.end());
  const auto n = static_cast<double>(num_permutations);
  for (const double value : null) {
    out.num_at_least += value >= out.observed;
    out.mean += value / n;
  }
  for (const double value : null) out.deviation += (value - out.mean) * (value - out.mean) / n;
  out.deviation = std::sqrt(out.deviation);
  out.max = null.back();
  out.p95 = quantile(null, 0.95);
  out.p99 = quantile(null, 0.99);
  out.p_value = (1 + static_cast<double>(out.num_at_least)) / (n + 1);
  return out;
}

}  // namespace cresco::lifecycle
