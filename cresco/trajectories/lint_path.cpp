// Training takes each snapshot on from the one before it, in small steps whose noise stays: where
// the weights are at a step depends on the past only through where they just were. Three things
// follow, whatever the learning rate, the spacing of the steps and the type the weights are stored
// in, and each is measured by tensor, with the median over the tensors as the answer:
//
//   - Between its neighbours a snapshot lies about as far off the line through them as a bridge of
//     random steps does (`level`, 1 for such a bridge), and that changes slowly along the
//     trajectory (`excess`, against the levels around it, which are taken without it).
//   - Once both neighbours are known, the next ones say nothing more. In the best combination of
//     the four they have no weight, or a negative one where the path is curved. A snapshot of
//     another run does not contain the noise of this one's neighbours, and the more distant ones
//     predict it as well (`far_weight`).
//   - Weights of another initialisation do not correlate with any of this one's.
//
// A loss spike moves fast and goes on from there: it raises the distances, not these ratios.
#include "cresco/base/require.h"
#include "cresco/base/threads.h"
#include "cresco/trajectories/lint_checks.h"
#include "cresco/trajectories/lint_distances.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace cresco::trajectories {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// How docs/lint_power.md found them: no clean trajectory comes near, the defects lie beyond.
constexpr double kFarWeight = 0.08, kExcessOfOtherRun = 0.7;  // together: another run
constexpr double kFarWeightAtEnd = 0.2, kExcessAtEnd = 0.5;
constexpr double kLevelOfNoise = 1.4, kExcessOfNoise = 0.9;  // together: off the path
constexpr double kExcessAlone = 4;
constexpr double kSwapGain = 1.3;  // shorter by this factor with two snapshots exchanged
constexpr double kScaled = 0.03;   // least common change of the logarithms of all norms

double median(std::vector<double> values) {
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return kNaN;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

// One tensor over all snapshots that are looked at.
struct TensorPath {
  SquaredDistances distances;
  std::vector<double> rounding;  // squared, of each snapshot: what storing it added
};

// Mean squared rounding error of numbers of a type, relative to their mean square, with digits
// after the first spread evenly.
double rounding_of(formats::DType dtype) {
  const double ulp = dtype == formats::DType::F16 ? 0x1p-10
                     : dtype == formats::DType::BF16 ? 0x1p-7
                                                     : 0x1p-23;
  return 0.045 * ulp * ulp;
}

// The best affine combination of `near` for `k`: squared distance of k from it, and the weights.
struct Fit {
  double squared = kNaN;
  std::vector<double> weights;
};

Fit best_combination(const SquaredDistances& d, std::size_t k,
                     const std::vector<std::size_t>& near) {
  // Normal equations about near[0], at most three unknowns, by elimination with pivots.
  const std::size_t n = near.size() - 1, origin = near[0];
  const auto inner = [&](std::size_t i, std::size_t j) {
    return (d.at(origin, i) + d.at(origin, j) - d.at(i, j)) / 2;
  };
  std::array<std::array<double, 4>, 3> a{};
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += inner(near[i + 1], near[i + 1]);
  if (!(trace > 0)) return {};
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) a[i][j] = inner(near[i + 1], near[j + 1]);
    a[i][i] += 1e-9 * trace;
    a[i][3] = inner(near[i + 1], k);
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t pivot = i;
    for (std::size_t r = i + 1; r < n; ++r)
      if (std::abs(a[r][i]) > std::abs(a[pivot][i])) pivot = r;
    std::swap(a[i], a[pivot]);
    for (std::size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const double factor = a[r][i] / a[i][i];
      for (std::size_t c = i; c < 4; ++c) a[r][c] -= factor * a[i][c];
    }
  }
  Fit fit{.squared = d.at(origin, k), .weights = {1}};
  for (std::size_t i = 0; i < n; ++i) {
    const double weight = a[i][3] / a[i][i];
    fit.weights.push_back(weight);
    fit.weights[0] -= weight;
    fit.squared -= weight * inner(near[i + 1], k);
  }
  fit.squared = std::max(fit.squared, 0.0);
  return fit;
}

// log of a bridge's level, and the weight of the distant ones.
struct Misfit {
  double log_level = kNaN, far_weight = kNaN;
};

using Places = std::vector<std::size_t>;  // of snapshots, in the order of the path

class WeightPath {
 public:
  WeightPath(std::vector<const SnapshotDigest*> snapshots, std::vector<std::string> names)
      : snapshots_(std::move(snapshots)), names_(std::move(names)) {
    std::vector<std::string> matrices;
    for (const std::string& name : names_)
      if (snapshots_[0]->tensors.at(name).shape.size() >= 2 &&
          snapshots_[0]->tensors.at(name).num_elements >= 64)
        matrices.push_back(name);
    for (const std::string& name : matrices.empty() ? names_ : matrices) {
      TensorPath path{squared_distances(snapshots_, {name}), {}};
      for (const SnapshotDigest* snapshot : snapshots_) {
        const TensorDigest& tensor = snapshot->tensors.at(name);
        path.rounding.push_back(tensor.sum_squares * rounding_of(tensor.dtype));
      }
      tensors_.push_back(std::move(path));
    }
  }

  std::size_t size() const { return snapshots_.size(); }
  std::int64_t step(std::size_t i) const { return snapshots_[i]->step; }
  const SnapshotDigest& snapshot(std::size_t i) const { return *snapshots_[i]; }
  const std::vector<std::string>& names() const { return names_; }

  double median_over_tensors(const std::function<double(const TensorPath&)>& value) const {
    std::vector<double> values;
    for (const TensorPath& tensor : tensors_) values.push_back(value(tensor));
    return median(std::move(values));
  }

  // Of the snapshot at order[p], between its neighbours there.
  Misfit misfit(const TensorPath& tensor, const Places& order, std::size_t p) const {
    std::vector<std::size_t> near{order[p - 1], order[p + 1]};
    if (p >= 2) near.push_back(order[p - 2]);
    if (p + 2 < order.size()) near.push_back(order[p + 2]);
    const double between = tensor.distances.at(near[0], near[1]);
    const Fit fit = best_combination(tensor.distances, order[p], near);
    if (!(between > 0) || fit.weights.empty()) return {};
    double rounding = tensor.rounding[order[p]], far = 0;
    for (std::size_t i = 0; i < near.size(); ++i) {
      rounding += fit.weights[i] * fit.weights[i] * tensor.rounding[near[i]];
      if (i >= 2) far += fit.weights[i];
    }
    if (rounding > 0.3 * fit.squared) return {};  // what is left is how the numbers were stored
    const double whole = static_cast<double>(step(near[1]) - step(near[0]));
    const double share =
        std::clamp(static_cast<double>(step(order[p]) - step(near[0])) / whole, 0.05, 0.95);
    return {std::log((fit.squared - rounding) / (between * share * (1 - share))), far};
  }

  // log of how much higher the level of order[p] is than those around it.
  double excess(const TensorPath& tensor, const Places& order, std::size_t p) const {
    const double own = misfit(tensor, order, p).log_level;
    Places rest = order;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(p));
    // rest[p - 1] and rest[p] are the neighbours; up to three on each side that have two of theirs.
    std::vector<double> before, after;
    for (std::size_t q = p; q-- > 1 && before.size() < 3;)
      if (q + 1 < rest.size()) before.push_back(misfit(tensor, rest, q).log_level);
    for (std::size_t q = p; q + 1 < rest.size() && after.size() < 3; ++q)
      after.push_back(misfit(tensor, rest, q).log_level);
    for (auto* side : {&before, &after})
      std::erase_if(*side, [](double v) { return !std::isfinite(v); });
    const std::size_t both = std::min(before.size(), after.size());
    if (both > 0) {
      before.resize(both);
      before.insert(before.end(), after.begin(), after.begin() + static_cast<std::ptrdiff_t>(both));
      return own - median(before);
    }
    const auto& side = before.empty() ? after : before;
    if (side.size() < 2) return kNaN;
    return own - std::max(side[0], 2 * side[0] - side[1]);  // a level that rises rises further
  }

  // The same for the last snapshot, which has neighbours on one side only: how far it lies from
  // the best combination of the three before it, by the length of the interval before.
  Misfit end_misfit(const TensorPath& tensor, const Places& order, std::size_t p) const {
    const std::vector<std::size_t> near{order[p - 1], order[p - 2], order[p - 3]};
    const double before = tensor.distances.at(near[0], near[1]);
    const Fit fit = best_combination(tensor.distances, order[p], near);
    if (!(before > 0) || fit.weights.empty()) return {};
    const double pace = static_cast<double>(step(near[0]) - step(near[1])) /
                        static_cast<double>(step(order[p]) - step(near[0]));
    return {std::log(std::max(fit.squared, 1e-12 * before) / before * pace),
            fit.weights[1] + fit.weights[2]};
  }
  double end_excess(const TensorPath& tensor, const Places& order) const {
    const std::size_t last = order.size() - 1;
    std::vector<double> before;
    for (std::size_t p = last - 3; p < last; ++p)
      before.push_back(end_misfit(tensor, order, p).log_level);
    return end_misfit(tensor, order, last).log_level - median(before);
  }

 private:
  std::vector<const SnapshotDigest*> snapshots_;
  std::vector<std::string> names_;
  std::vector<TensorPath> tensors_;
};

// --- another initialisation ---------------------------------------------------------------------

// Snapshots that do not correlate with the larger part of the others; they leave the order.
void find_other_initialisations(const WeightPath& path, Places& order, Findings& findings) {
  const std::size_t n = path.size();
  if (n < 3) return;
  std::vector<std::size_t> component(n);
  std::iota(component.begin(), component.end(), std::size_t{0});
  const auto root = [&](std::size_t i) {
    while (component[i] != i) i = component[i];
    return i;
  };
  std::vector<double> neighbours;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) {
      // Neighbours and some that lie farther apart: all pairs would say the same.
      if (i - j > 4 && j != 0) continue;
      const Correlation c = correlation(path.snapshot(i), path.snapshot(j), path.names());
      if (i - j == 1) neighbours.push_back(c.value);
      if (c.value > std::max(6 * c.deviation, 0.02)) component[root(i)] = root(j);
    }
  if (!(median(neighbours) > 0.3)) return;  // steps so far apart that nothing is left of before
  std::vector<std::size_t> size(n, 0);
  for (std::size_t i = 0; i < n; ++i) ++size[root(i)];
  const std::size_t largest = static_cast<std::size_t>(
      std::max_element(size.begin(), size.end()) - size.begin());
  for (std::size_t i = 0; i < n; ++i) {
    if (root(i) == largest) continue;
    findings.push_back(
        {"other-initialisation", Level::Error, path.step(i), "",
         fmt::format("its weights have nothing in common with those of the {} other steps, which "
                     "correlate with {:.2f} from one to the next: a model with another "
                     "initialisation",
                     size[largest], median(neighbours))});
    std::erase(order, i);
  }
}

// --- exchanged snapshots --------------------------------------------------------------------------

// Sum of the squared intervals that touch places p and q of an order.
double touching(const SquaredDistances& d, const Places& order, std::size_t p, std::size_t q) {
  double sum = 0;
  std::array<std::size_t, 4> edges{p, p + 1, q, q + 1};  // interval e lies before place e
  for (std::size_t e = 0; e < 4; ++e)
    if (edges[e] > 0 && edges[e] < order.size() && (e != 2 || edges[2] != edges[1]))
      sum += d.at(order[edges[e] - 1], order[edges[e]]);
  return sum;
}

void find_swaps(const WeightPath& path, Places& order, Findings& findings) {
  // Each round exchanges the two whose exchange makes the path shortest.
  for (std::size_t round = 0; round < order.size() / 2; ++round) {
    const std::size_t n = order.size();
    std::vector<double> best(n, 0);
    std::vector<std::size_t> partner(n, 0);
    parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t row) {
      const auto p = static_cast<std::size_t>(row);
      Places swapped = order;
      for (std::size_t q = p + 1; q < n; ++q) {
        std::swap(swapped[p], swapped[q]);
        const double gain = path.median_over_tensors([&](const TensorPath& tensor) {
          return touching(tensor.distances, order, p, q) /
                 touching(tensor.distances, swapped, p, q);
        });
        std::swap(swapped[p], swapped[q]);
        if (gain > best[p]) best[p] = gain, partner[p] = q;
      }
    });
    const auto p = static_cast<std::size_t>(std::max_element(best.begin(), best.end()) - best.begin());
    if (!(best[p] > kSwapGain) || n < 4) return;
    const std::size_t q = partner[p];
    const auto name = [&](std::size_t at, std::size_t other) {
      findings.push_back(
          {"swapped-snapshots", Level::Error, path.step(order[at]), "",
           fmt::format("seems to be step {} and that one this: exchanged, the path through their "
                       "neighbours is {:.2f} times shorter",
                       path.step(order[other]), best[p])});
    };
    name(p, q);
    name(q, p);
    // Neither is judged further.
    Places kept;
    for (std::size_t i = 0; i < n; ++i)
      if (i != p && i != q) kept.push_back(order[i]);
    order = kept;
  }
}

// --- scaled snapshots -----------------------------------------------------------------------------

void find_scaled(const WeightPath& path, Places& order, Findings& findings) {
  const Places all = order;
  for (std::size_t p = 0; p < all.size() && all.size() >= 3; ++p) {
    std::vector<double> changes;
    for (const std::string& name : path.names()) {
      const auto log_norm = [&](std::size_t q) {
        return 0.5 * std::log(path.snapshot(all[q]).tensors.at(name).sum_squares);
      };
      const double here = log_norm(p);
      const double before = p > 0 ? log_norm(p - 1) : log_norm(p + 1);
      const double after = p + 1 < all.size() ? log_norm(p + 1) : before;
      // The neighbour that it is closer to: what is left is more than both intervals can explain.
      const double change = std::abs(here - before) < std::abs(here - after) ? here - before
                                                                              : here - after;
      if (std::isfinite(change)) changes.push_back(change);
    }
    const double common = median(changes);
    if (changes.size() < 8 || !(std::abs(common) > kScaled)) continue;
    const auto alike = std::count_if(changes.begin(), changes.end(), [&](double change) {
      return std::abs(change - common) < 0.3 * std::abs(common);
    });
    if (static_cast<double>(alike) < 0.75 * static_cast<double>(path.names().size())) continue;
    findings.push_back(
        {"scaled-snapshot", Level::Error, path.step(all[p]), "",
         fmt::format("{} of {} tensors are {:.3g} times as large as at the nearer of the steps "
                     "beside it: multiplied by a number?",
                     alike, path.names().size(), std::exp(common))});
    std::erase(order, all[p]);
  }
}

// --- snapshots beside the path ----------------------------------------------------------------------

struct Outlier {
  std::size_t place = 0;
  double excess = 0, level = 0, far_weight = 0;
  bool is_other_run = false, is_last = false;
};

std::optional<Outlier> judge(const WeightPath& path, const Places& order, std::size_t p) {
  Outlier found{.place = p, .is_last = p + 1 == order.size()};
  const auto misfit = [&](const TensorPath& tensor) {
    return found.is_last ? path.end_misfit(tensor, order, p) : path.misfit(tensor, order, p);
  };
  found.excess = path.median_over_tensors([&](const TensorPath& tensor) {
    return found.is_last ? path.end_excess(tensor, order) : path.excess(tensor, order, p);
  });
  found.far_weight = path.median_over_tensors(
      [&](const TensorPath& tensor) { return misfit(tensor).far_weight; });
  found.level = std::exp(path.median_over_tensors(
      [&](const TensorPath& tensor) { return misfit(tensor).log_level; }));
  if (found.is_last) {
    found.is_other_run = found.excess > kExcessAtEnd && found.far_weight > kFarWeightAtEnd;
    return found.is_other_run || (found.excess > kExcessAlone && found.far_weight > 0)
               ? std::optional(found)
               : std::nullopt;
  }
  found.is_other_run = found.excess > kExcessOfOtherRun && found.far_weight > kFarWeight;
  const bool is_noisy = found.excess > kExcessOfNoise && found.level > kLevelOfNoise;
  const bool is_far = found.excess > kExcessAlone && found.far_weight > -1;
  return found.is_other_run || is_noisy || is_far ? std::optional(found) : std::nullopt;
}

void find_outliers(const WeightPath& path, Places order, Findings& findings) {
  const std::size_t most = order.size() / 3;
  for (std::size_t round = 0; round <= most; ++round) {
    const std::size_t n = order.size();
    if (n < 6) return;
    std::vector<std::optional<Outlier>> judged(n);
    parallel_for(static_cast<std::int64_t>(n) - 1, [&](std::int64_t i) {
      const auto p = static_cast<std::size_t>(i) + 1;
      if (p + 1 < n || n >= 8) judged[p] = judge(path, order, p);
    });
    // The worst leaves the path, and the others are judged again without it.
    const Outlier* worst = nullptr;
    for (const auto& outlier : judged)
      if (outlier && (!worst || outlier->excess > worst->excess)) worst = &*outlier;
    if (!worst) return;
    const std::size_t at = order[worst->place];
    findings.push_back(
        {worst->is_other_run ? "other-run" : "off-path", Level::Error, path.step(at), "",
         fmt::format("lies {:.3g} times farther off the path of the steps {} than the steps "
                     "around it do (squared){}",
                     std::exp(worst->excess),
                     worst->is_last ? "before it" : "beside it",
                     worst->is_other_run
                         ? fmt::format(", and they predict it no better than more distant ones "
                                       "(weight {:.2f}): of a run with other data?",
                                       worst->far_weight)
                         : std::string(": altered weights, or of another run?"))});
    order.erase(order.begin() + static_cast<std::ptrdiff_t>(worst->place));
  }
}

}  // namespace

void check_path(const Digests& digests, const Suspects& suspects, Findings& findings) {
  std::vector<const SnapshotDigest*> snapshots;
  for (std::size_t i = 0; i < digests.size(); ++i)
    if (!suspects.contains(i) && digests[i].is_readable() && !digests[i].tensors.empty())
      snapshots.push_back(&digests[i]);
  if (snapshots.size() < 3) return;
  const auto names = shared_tensors(snapshots);
  if (names.empty()) return;
  const WeightPath path(std::move(snapshots), names);
  Places order(path.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  find_other_initialisations(path, order, findings);
  find_scaled(path, order, findings);
  find_swaps(path, order, findings);
  find_outliers(path, order, findings);
}

}  // namespace cresco::trajectories
