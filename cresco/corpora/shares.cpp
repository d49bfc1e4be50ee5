#include "cresco/corpora/shares.h"

#include "cresco/base/require.h"

#include <cmath>
#include <numeric>

namespace cresco::corpora {

Shares::Shares(std::vector<double> weights) : shares_(std::move(weights)) {
  require_usage(!shares_.empty(), "a mixture of no sources");
  for (const double weight : shares_)
    require_usage(std::isfinite(weight) && weight > 0,
                  "a weight of a mixture is {}, expected a number above 0", weight);
  const double sum = std::accumulate(shares_.begin(), shares_.end(), 0.0);
  require_usage(std::isfinite(sum), "the weights of a mixture sum up to {}", sum);
  for (double& share : shares_) share /= sum;
  for (const double share : shares_)
    require_usage(share > 1e-9, "a share of a mixture is {}, expected at least 1e-9", share);
}

double Shares::time(std::size_t source, std::int64_t index) const {
  return (static_cast<double>(index) + 0.5) / shares_[source];
}

std::size_t Shares::next(const std::vector<std::int64_t>& counts) const {
  std::size_t best = 0;
  for (std::size_t s = 1; s < counts.size(); ++s)
    if (time(s, counts[s]) < time(best, counts[best])) best = s;
  return best;
}

// The source that was the last to get a place: of those that are level, the last.
std::size_t Shares::latest(const std::vector<std::int64_t>& counts) const {
  std::size_t best = counts.size();
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] == 0) continue;
    if (best == counts.size() || time(s, counts[s] - 1) >= time(best, counts[best] - 1)) best = s;
  }
  return best;
}

std::vector<std::int64_t> Shares::counts(std::int64_t places) const {
  require(places >= 0 && places < (std::int64_t{1} << 52), "{} places, expected 0 to 2^52", places);
  if (shares_.size() == 1) return {places};
  std::vector<std::int64_t> counts;
  for (const double share : shares_)
    counts.push_back(std::llround(share * static_cast<double>(places)));
  std::int64_t left = places - std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  for (; left > 0; --left) ++counts[next(counts)];
  for (; left < 0; ++left) --counts[latest(counts)];
  // As many as there should be; now those that came first.
  for (;;) {
    const std::size_t in = next(counts), out = latest(counts);
    if (out == counts.size() || in == out) return counts;
    const double next_time = time(in, counts[in]), last_time = time(out, counts[out] - 1);
    if (next_time > last_time || (next_time == last_time && in > out)) return counts;
    ++counts[in];
    --counts[out];
  }
}

Shares::Place Shares::at(std::int64_t place) const {
  const std::vector<std::int64_t> before = counts(place);
  const std::size_t source = next(before);
  return {source, before[source]};
}

}  // namespace cresco::corpora
