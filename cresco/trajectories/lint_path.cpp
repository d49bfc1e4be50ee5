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
#include <mutex>
#include <numeric>

namespace cresco::trajectories {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// How docs/lint_power.md found them: no clean trajectory comes near, the defects lie beyond.
constexpr double kFarWeight = 0.08, kExcessOfOtherRun = 0.7;  // together: another run
constexpr double kFarWeightAtEnd = 0.2, kExcessAtEnd = 0.5;
constexpr double kLevelOfNoise = 1.6, kExcessOfNoise = 0.9;  // together: off the path
constexpr double kLevelAlone = 20, kExcessAtEndAlone = 4;
constexpr double kForward = -0.4, kForwardAtEnd = 0.4;  // below: two neighbours are exchanged
constexpr double kSwapGain = 1.3;  // shorter by this factor with two others exchanged
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
  const double ulp = dtype == formats::DType::F16    ? 0x1p-10
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

// Snapshots along the path, and the steps that stand at their places.
struct Order {
  std::vector<std::size_t> at;
  std::vector<std::int64_t> steps;

  std::size_t size() const { return at.size(); }
  std::size_t operator[](std::size_t place) const { return at[place]; }
  void erase(std::size_t place) {
    at.erase(at.begin() + static_cast<std::ptrdiff_t>(place));
    steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(place));
  }
};

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
  Misfit misfit(const TensorPath& tensor, const Order& order, std::size_t p) const {
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
    const auto steps_from = [&](std::size_t place) {
      return static_cast<double>(order.steps[place] - order.steps[p - 1]);
    };
    const double share = std::clamp(steps_from(p) / steps_from(p + 1), 0.05, 0.95);
    return {std::log((fit.squared - rounding) / (between * share * (1 - share))), far};
  }

  // log of how much higher the level of order[p] is than those around it.
  double excess(const TensorPath& tensor, const Order& order, std::size_t p) const {
    const double own = misfit(tensor, order, p).log_level;
    Order rest = order;
    rest.erase(p);
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
  Misfit end_misfit(const TensorPath& tensor, const Order& order, std::size_t p) const {
    const std::vector<std::size_t> near{order[p - 1], order[p - 2], order[p - 3]};
    const double before = tensor.distances.at(near[0], near[1]);
    const Fit fit = best_combination(tensor.distances, order[p], near);
    if (!(before > 0) || fit.weights.empty()) return {};
    const double pace = static_cast<double>(order.steps[p - 1] - order.steps[p - 2]) /
                        static_cast<double>(order.steps[p] - order.steps[p - 1]);
    return {std::log(std::max(fit.squared, 1e-12 * before) / before * pace),
            fit.weights[1] + fit.weights[2]};
  }
  double end_excess(const TensorPath& tensor, const Order& order) const {
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
void find_other_initialisations(const WeightPath& path, Order& order, Findings& findings) {
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
  const std::size_t largest =
      static_cast<std::size_t>(std::max_element(size.begin(), size.end()) - size.begin());
  for (std::size_t i = 0; i < n; ++i) {
    if (root(i) == largest) continue;
    findings.push_back(
        {"other-initialisation", Level::Error, path.step(i), "",
         fmt::format("its weights have nothing in common with those of the {} other steps, which "
                     "correlate with {:.2f} from one to the next: a model with another "
                     "initialisation",
                     size[largest], median(neighbours))});
    order.erase(static_cast<std::size_t>(std::find(order.at.begin(), order.at.end(), i) -
                                         order.at.begin()));
  }
}

// --- scaled snapshots
// -----------------------------------------------------------------------------

// By how much the logarithms of the norms differ from those at `share` of the way from the step
// before to the step after; at an end, from those of the one step beside it.
struct NormChange {
  double common = 0;      // the median over the tensors
  bool is_alike = false;  // three quarters of them change by about that
};

NormChange norm_change(const WeightPath& path, const Order& order, std::size_t p, double share) {
  std::vector<double> changes;
  for (const std::string& name : path.names()) {
    const auto log_norm = [&](std::size_t q) {
      return 0.5 * std::log(path.snapshot(order[q]).tensors.at(name).sum_squares);
    };
    const double before = log_norm(p > 0 ? p - 1 : p + 1);
    const double after = log_norm(p + 1 < order.size() ? p + 1 : p - 1);
    const double change = log_norm(p) - (1 - share) * before - share * after;
    if (std::isfinite(change)) changes.push_back(change);
  }
  if (changes.size() < 8) return {};
  const double common = median(changes);
  const auto alike = std::count_if(changes.begin(), changes.end(), [&](double change) {
    return std::abs(change - common) < 0.4 * std::abs(common);
  });
  return {common, std::abs(common) > kScaled &&
                      static_cast<double>(alike) > 0.75 * static_cast<double>(changes.size())};
}

// The logarithm of the factor, 0 when it is none.
double scale_of(const WeightPath& path, const Order& order, std::size_t p) {
  const NormChange from_before = norm_change(path, order, p, 0);
  if (p == 0 || p + 1 == order.size()) return from_before.is_alike ? from_before.common : 0;
  // Beside a scaled snapshot a norm changes on that side alone.
  const NormChange from_after = norm_change(path, order, p, 1);
  const NormChange from_both = norm_change(path, order, p, 0.5);
  const double least = std::min(std::abs(from_before.common), std::abs(from_after.common));
  if (from_before.common * from_after.common <= 0 || least < 0.02) return 0;
  for (const NormChange& change : {from_both, from_before, from_after})
    if (change.is_alike) return change.common;
  return 0;
}

void find_scaled(const WeightPath& path, Order& order, Findings& findings) {
  while (order.size() >= 3) {
    double largest = 0;
    std::size_t place = 0;
    for (std::size_t p = 0; p < order.size(); ++p) {
      // An end beside a scaled snapshot shows the same change: the inner one is meant.
      const bool is_end = p == 0 || p + 1 == order.size();
      const double scale = scale_of(path, order, p) * (is_end ? 0.5 : 1);
      if (std::abs(scale) > std::abs(largest)) largest = scale, place = p;
    }
    if (largest == 0) return;
    findings.push_back({"scaled-snapshot", Level::Error, order.steps[place], "",
                        fmt::format("all its tensors are {:.3g} times as large as the steps beside "
                                    "it let expect: multiplied by a number?",
                                    std::exp(scale_of(path, order, place)))});
    order.erase(place);
  }
}

// --- snapshots beside the path
// ----------------------------------------------------------------------

struct Outlier {
  std::size_t place = 0;
  double excess = 0, level = 0, far_weight = 0;
  bool is_other_run = false, is_last = false;

  // Without others to compare with, of a level that needs none.
  double strength() const { return std::isfinite(excess) ? excess : std::log(level); }
};

std::optional<Outlier> judge(const WeightPath& path, const Order& order, std::size_t p) {
  Outlier found{.place = p, .is_last = p + 1 == order.size()};
  // The first has nothing before it; an end needs others to be compared with.
  if (p == 0 || order.size() < (found.is_last ? 8u : 6u)) return std::nullopt;
  const auto misfit = [&](const TensorPath& tensor) {
    return found.is_last ? path.end_misfit(tensor, order, p) : path.misfit(tensor, order, p);
  };
  found.excess = path.median_over_tensors([&](const TensorPath& tensor) {
    return found.is_last ? path.end_excess(tensor, order) : path.excess(tensor, order, p);
  });
  found.far_weight =
      path.median_over_tensors([&](const TensorPath& tensor) { return misfit(tensor).far_weight; });
  found.level = std::exp(
      path.median_over_tensors([&](const TensorPath& tensor) { return misfit(tensor).log_level; }));
  if (found.is_last) {
    found.is_other_run = found.excess > kExcessAtEnd && found.far_weight > kFarWeightAtEnd;
    const bool is_far = found.excess > kExcessAtEndAlone && found.far_weight > 0;
    return found.is_other_run || is_far ? std::optional(found) : std::nullopt;
  }
  found.is_other_run = found.excess > kExcessOfOtherRun && found.far_weight > kFarWeight;
  const bool is_noisy =
      found.level > kLevelAlone || (found.excess > kExcessOfNoise && found.level > kLevelOfNoise);
  return found.is_other_run || is_noisy ? std::optional(found) : std::nullopt;
}

// --- exchanged snapshots
// --------------------------------------------------------------------------

// How far the interval from p to p + 1 goes the way from what is before to what is after it, by its
// own length. 1 where all intervals are independent, more on a steady way, 1/2 in a cloud of points
// around a fixed one; with the two exchanged it is the negative, or at an end 1 minus it.
double forward(const SquaredDistances& d, const Order& order, std::size_t p) {
  const std::size_t i = order[p], j = order[p + 1];
  const std::size_t before = p > 0 ? order[p - 1] : i;
  const std::size_t after = p + 2 < order.size() ? order[p + 2] : j;
  return (d.at(i, after) - d.at(j, after) - d.at(i, before) + d.at(j, before)) / (2 * d.at(i, j));
}

// Sum of the squared intervals that touch places p and q of an order.
double touching(const SquaredDistances& d, const Order& order, std::size_t p, std::size_t q) {
  double sum = 0;
  const std::array<std::size_t, 4> edges{p, p + 1, q, q + 1};  // interval e lies before place e
  for (std::size_t e = 0; e < 4; ++e)
    if (edges[e] > 0 && edges[e] < order.size() && (e != 2 || edges[2] != edges[1]))
      sum += d.at(order[edges[e] - 1], order[edges[e]]);
  return sum;
}

struct Swap {
  std::size_t p = 0, q = 0;
  double gain = 0;  // how many times shorter the path is with the two exchanged
};

// By how much two neighbours at p go back farther than two in their order ever do; else 0.
double goes_back(const WeightPath& path, const Order& order, std::size_t p) {
  const bool is_end = p == 0 || p + 2 == order.size();
  const double value = path.median_over_tensors(
      [&](const TensorPath& tensor) { return forward(tensor.distances, order, p); });
  return std::max(0.0, (is_end ? kForwardAtEnd : kForward) - value);
}

// Whether nothing speaks against the order any more with the two exchanged.
bool settles(const WeightPath& path, const Order& order, const Swap& swap) {
  Order swapped = order;
  std::swap(swapped.at[swap.p], swapped.at[swap.q]);
  for (const std::size_t place : {swap.p, swap.q}) {
    if (judge(path, swapped, place)) return false;
    for (const std::size_t p : {place - 1, place})  // before 0 is nothing: beyond the end
      if (p < order.size() && p + 1 < order.size() && goes_back(path, swapped, p) > 0) return false;
  }
  return true;
}

// The two neighbours that go back farthest.
std::optional<Swap> swapped_neighbours(const WeightPath& path, const Order& order) {
  double most = 0;
  std::optional<Swap> found;
  for (std::size_t p = 0; p + 1 < order.size(); ++p)
    if (const double back = goes_back(path, order, p); back > most) {
      most = back;
      found = Swap{p, p + 1, 0};
    }
  return found;
}

// The two whose exchange takes most from the path and settles it: neighbours that go back, or
// others where the path becomes much shorter.
std::optional<Swap> swapped_two(const WeightPath& path, const Order& order) {
  std::vector<std::pair<double, Swap>> candidates;  // what is gained, as a part of the path
  std::mutex mutex;
  parallel_for(static_cast<std::int64_t>(order.size()), [&](std::int64_t row) {
    const auto p = static_cast<std::size_t>(row);
    Order swapped = order;
    const bool back = p + 1 < order.size() && goes_back(path, order, p) > 0;
    for (std::size_t q = p + 1; q < order.size(); ++q) {
      std::swap(swapped.at[p], swapped.at[q]);
      const double gain = path.median_over_tensors([&](const TensorPath& tensor) {
        return touching(tensor.distances, order, p, q) / touching(tensor.distances, swapped, p, q);
      });
      if (q == p + 1 ? back : gain > kSwapGain) {
        const double part = path.median_over_tensors([&](const TensorPath& tensor) {
          double whole = 0;
          for (std::size_t e = 1; e < order.size(); ++e)
            whole += tensor.distances.at(order[e - 1], order[e]);
          return (touching(tensor.distances, order, p, q) -
                  touching(tensor.distances, swapped, p, q)) /
                 whole;
        });
        const std::lock_guard lock(mutex);
        candidates.push_back({part, {p, q, gain}});
      }
      std::swap(swapped.at[p], swapped.at[q]);
    }
  });
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return a.first != b.first
               ? a.first > b.first
               : std::pair(a.second.p, a.second.q) < std::pair(b.second.p, b.second.q);
  });
  if (candidates.size() > 20) candidates.resize(20);
  for (const auto& [part, swap] : candidates)
    if (settles(path, order, swap)) return swap;
  return std::nullopt;
}

void find_swaps(const WeightPath& path, Order& order, Findings& findings) {
  while (order.size() >= 4) {
    auto swap = swapped_two(path, order);
    if (!swap) swap = swapped_neighbours(path, order);
    if (!swap) return;
    const auto say = [&](std::size_t place, std::size_t other) {
      findings.push_back(
          {"swapped-snapshots", Level::Error, order.steps[place], "",
           fmt::format("seems to be exchanged with step {}: {}", order.steps[other],
                       swap->gain > 1
                           ? fmt::format("the path through their neighbours is {:.2f} times "
                                         "shorter the other way (squared)",
                                         swap->gain)
                           : std::string("from the one to the other the weights go back"))});
    };
    say(swap->p, swap->q);
    say(swap->q, swap->p);
    order.erase(swap->q);  // neither is judged further
    order.erase(swap->p);
  }
}

// --- the rest --------------------------------------------------------------------------------

void find_outliers(const WeightPath& path, Order order, Findings& findings) {
  const std::size_t most = order.size() / 3;
  for (std::size_t round = 0; round <= most; ++round) {
    const std::size_t n = order.size();
    std::vector<std::optional<Outlier>> judged(n);
    parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t i) {
      const auto p = static_cast<std::size_t>(i);
      judged[p] = judge(path, order, p);
    });
    // The worst leaves the path, and the others are judged again without it.
    const Outlier* worst = nullptr;
    for (const auto& outlier : judged)
      if (outlier && (!worst || outlier->strength() > worst->strength())) worst = &*outlier;
    if (!worst) return;
    findings.push_back(
        {worst->is_other_run ? "other-run" : "off-path", Level::Error, order.steps[worst->place],
         "",
         fmt::format("lies {:.3g} times farther off the path of the steps {} than the steps "
                     "around it do (squared){}",
                     std::exp(worst->strength()), worst->is_last ? "before it" : "beside it",
                     worst->is_other_run
                         ? fmt::format(", and they predict it no better than more distant ones "
                                       "(weight {:.2f}): of a run with other data?",
                                       worst->far_weight)
                         : std::string(": altered weights, or of another run?"))});
    order.erase(worst->place);
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
  Order order;
  for (std::size_t i = 0; i < path.size(); ++i) {
    order.at.push_back(i);
    order.steps.push_back(path.step(i));
  }
  find_other_initialisations(path, order, findings);
  find_scaled(path, order, findings);
  find_swaps(path, order, findings);
  find_outliers(path, order, findings);
}

}  // namespace cresco::trajectories
