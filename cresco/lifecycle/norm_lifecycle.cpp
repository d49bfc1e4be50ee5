#include "cresco/lifecycle/norm_lifecycle.h"

#include <ATen/ATen.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cresco::lifecycle {
namespace {

// Mean of what lies in a window; 0 when nothing does.
struct Window {
  double sum = 0, peak = 0;
  int count = 0;
  void add(double value) {
    sum += value;
    peak = std::max(peak, value);
    ++count;
  }
  float mean() const { return count ? static_cast<float>(sum / count) : 0.0f; }
};

std::vector<double> relative(const std::vector<double>& norms) {
  const double peak = *std::max_element(norms.begin(), norms.end());
  std::vector<double> rho;
  for (const double norm : norms) rho.push_back(peak > 0 ? norm / peak : 0);
  return rho;
}

}  // namespace

std::string name_of(Profile profile) {
  switch (profile) {
    case Profile::Persistent:
      return "persistent";
    case Profile::Transitional:
      return "transitional";
    case Profile::EarlyDecaying:
      return "early-decaying";
    case Profile::LateEmerging:
      return "late-emerging";
    case Profile::Mixed:
      break;
  }
  return "mixed";
}

std::vector<double> log_time(const std::vector<std::int64_t>& steps) {
  const auto position = [](std::int64_t step) { return std::log10(static_cast<double>(step) + 1); };
  const double first = position(steps.front()), last = position(steps.back());
  std::vector<double> tau;
  for (const std::int64_t step : steps)
    tau.push_back(last > first ? (position(step) - first) / (last - first) : 0);
  return tau;
}

Profile profile_of(const std::vector<double>& norms, const std::vector<double>& tau) {
  Window early_window, middle, late_window;
  double low = 1, high = 0, peak_tau = 0, first_alive = -1, last_alive = -1;
  int num_alive = 0;
  const std::vector<double> exact = relative(norms);
  for (std::size_t k = 0; k < exact.size(); ++k) {
    const double rho = static_cast<float>(c10::Half(static_cast<float>(exact[k])));
    (tau[k] <= 0.35 ? early_window : tau[k] < 0.65 ? middle : late_window).add(rho);
    if (rho > high) peak_tau = tau[k];
    low = std::min(low, rho);
    high = std::max(high, rho);
    if (rho < kAliveLevel) continue;
    ++num_alive;
    last_alive = tau[k];
    if (first_alive < 0) first_alive = tau[k];
  }
  const float early = early_window.mean(), mid = middle.mean(), late = late_window.mean();
  const float mid_peak = static_cast<float>(middle.peak), range = static_cast<float>(high - low);
  const float alive_fraction = static_cast<float>(num_alive) / static_cast<float>(exact.size());
  const float span = static_cast<float>(last_alive - first_alive);

  if ((alive_fraction >= 0.70f && range <= 0.35f) || std::min({early, mid, late}) >= 0.45f)
    return Profile::Persistent;
  if (mid_peak >= 0.75f && mid_peak - std::max(early, late) >= 0.35f && late <= 0.30f &&
      span <= 0.35f && peak_tau > 0.35 && peak_tau < 0.65)
    return Profile::Transitional;
  if (early >= 0.50f && early - late >= 0.30f && peak_tau <= 0.45) return Profile::EarlyDecaying;
  if (late >= 0.50f && late - early >= 0.30f && peak_tau >= 0.55) return Profile::LateEmerging;
  return Profile::Mixed;
}

std::vector<NormLifecycle> norm_lifecycles(const at::Tensor& norms_KF,
                                           const std::vector<std::int64_t>& steps) {
  const at::Tensor norms_FK = norms_KF.to(at::kCPU, at::kDouble).t().contiguous();
  const double largest = norms_FK.max().item<double>();
  const std::vector<double> tau = log_time(steps);
  const auto K = norms_FK.size(1);
  std::vector<NormLifecycle> all;
  for (std::int64_t f = 0; f < norms_FK.size(0); ++f) {
    const double* const first = norms_FK.const_data_ptr<double>() + f * K;
    const std::vector<double> norms(first, first + K);
    const auto peak = std::max_element(norms.begin(), norms.end());
    NormLifecycle life{*peak > kAliveShare * largest, peak - norms.begin(), {}, {}};
    if (life.alive) {
      const std::vector<double> rho = relative(norms);
      const auto up = [](double r) { return r >= kAliveLevel; };
      const std::int64_t begin = std::find_if(rho.begin(), rho.end(), up) - rho.begin();
      const std::int64_t end = K - 1 - (std::find_if(rho.rbegin(), rho.rend(), up) - rho.rbegin());
      if (begin > 0) life.born = begin;
      if (end < K - 1) life.died = end;
      life.profile = profile_of(norms, tau);
    }
    all.push_back(life);
  }
  return all;
}

}  // namespace cresco::lifecycle
