#include "cresco/lifecycle/rate_lifecycle.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cresco::lifecycle {
namespace {

using Series = std::vector<double>;  // one feature over the snapshots

std::vector<Series> columns(const at::Tensor& t) {
  const at::Tensor rows = t.to(at::kCPU, at::kDouble).t().contiguous();
  std::vector<Series> all;
  for (std::int64_t f = 0; f < rows.size(0); ++f) {
    const double* const first = rows.const_data_ptr<double>() + f * rows.size(1);
    all.emplace_back(first, first + rows.size(1));
  }
  return all;
}

double median(Series values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::int64_t first_run(const std::vector<bool>& active, std::int64_t length) {
  std::int64_t run = 0;
  for (std::size_t k = 0; k < active.size(); ++k) {
    run = active[k] ? run + 1 : 0;
    if (run == length) return static_cast<std::int64_t>(k) + 1 - length;
  }
  return static_cast<std::int64_t>(active.size());
}

std::int64_t stabilized(const Series& rates, const Series& direction, const RateRule& rule) {
  const auto K = static_cast<std::int64_t>(rates.size());
  const std::int64_t quarter = std::min(std::max<std::int64_t>(1, K - K / 4), K - 1);
  const double level = median(Series(rates.begin() + quarter, rates.end()));
  std::int64_t k = K;
  for (; k > 0; --k) {
    const auto i = static_cast<std::size_t>(k - 1);
    const bool rate_stays =
        std::abs(rates[i] - level) < rule.rate_tolerance * std::abs(level) + 1e-12;
    const bool direction_stays = i >= direction.size() || direction[i] < rule.direction_tolerance;
    if (!rate_stays || !direction_stays) break;
  }
  return k;
}

double weighted_drift(const Series& norms, const Series& rotation, std::int64_t from) {
  double sum = 0, weights = 1e-12;
  for (std::size_t k = static_cast<std::size_t>(from); k < rotation.size(); ++k) {
    const double weight = std::sqrt(norms[k] * norms[k + 1]);
    sum += weight * rotation[k];
    weights += weight;
  }
  return sum / weights;
}

RateLifecycle lifecycle_of(const Series& rates, const Series& norms, const Series& rotation,
                           const Series& direction, const RateRule& rule) {
  const auto K = static_cast<std::int64_t>(rates.size());
  const double peak = *std::max_element(rates.begin(), rates.end());
  const std::int64_t latest_peak =
      K - 1 - (std::max_element(rates.rbegin(), rates.rend()) - rates.rbegin());
  RateLifecycle life{K, peak > 0 ? latest_peak : K, 0, K, std::numeric_limits<double>::quiet_NaN()};
  if (peak < rule.floor) return life;

  std::vector<bool> active;
  for (const double rate : rates) active.push_back(rate > std::max(rule.floor, rule.alpha * peak));
  life.first_active = first_run(active, rule.consecutive);
  life.lifetime =
      static_cast<double>(std::count(active.begin(), active.end(), true)) / static_cast<double>(K);
  life.stabilized = stabilized(rates, direction, rule);
  if (life.first_active < K) life.drift = weighted_drift(norms, rotation, life.first_active);
  return life;
}

}  // namespace

std::vector<RateLifecycle> rate_lifecycles(const at::Tensor& rates_KF, const at::Tensor& norms_KF,
                                           const at::Tensor& rotation_JF,
                                           const at::Tensor& direction, const RateRule& rule) {
  const auto rates = columns(rates_KF), norms = columns(norms_KF), rotation = columns(rotation_JF);
  const auto directions = columns(direction);
  std::vector<RateLifecycle> all;
  for (std::size_t f = 0; f < rates.size(); ++f)
    all.push_back(lifecycle_of(rates[f], norms[f], rotation[f], directions[f], rule));
  return all;
}

double rate_rotation_correlation(const at::Tensor& rates_KF, const at::Tensor& rotation_JF) {
  const at::Tensor moved_JF = rates_KF.to(at::kDouble).diff(1, 0).abs();
  const auto centred = [](const at::Tensor& t) { return t.to(at::kDouble) - t.mean(); };
  const at::Tensor a = centred(moved_JF), b = centred(rotation_JF.to(at::kDouble));
  const double sizes = a.norm().item<double>() * b.norm().item<double>();
  return sizes > 0 ? (a * b).sum().item<double>() / sizes : std::nan("");
}

}  // namespace cresco::lifecycle
