#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/trajectories/lint_checks.h"
#include "cresco/trajectories/lint_distances.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace cresco::trajectories {
namespace {

// Relative distance of neighbouring numbers of a type.
double ulp_of(formats::DType dtype) {
  switch (dtype) {
    case formats::DType::F16:
      return 0x1p-10;
    case formats::DType::BF16:
      return 0x1p-7;
    default:
      return 0x1p-23;
  }
}

// Logarithms of squared distances that differ by less do not tell two places apart.
constexpr double kClear = 0.75;

class CopiesCheck {
 public:
  CopiesCheck(const Digests& digests, Findings& findings, Suspects& suspects)
      : digests_(digests), findings_(findings), suspects_(suspects) {
    for (std::size_t i = 0; i < digests.size(); ++i)
      if (digests[i].is_readable() && !digests[i].tensors.empty()) readable_.push_back(i);
  }

  void run() {
    whole_snapshots();
    tensors();
  }

 private:
  const TensorDigest& tensor(std::size_t i, const std::string& name) const {
    return digests_[i].tensors.at(name);
  }
  void add(const char* code, Level level, std::size_t i, const std::string& name,
           std::string message) {
    if (level == Level::Error) suspects_.insert(i);
    report(code, level, i, name, std::move(message));
  }
  void report(const char* code, Level level, std::size_t i, const std::string& name,
              std::string message) {
    findings_.push_back({code, level, digests_[i].step, name, std::move(message)});
  }

  // --- whole snapshots ---

  void whole_snapshots() {
    std::map<std::string, std::vector<std::size_t>> groups;
    for (const std::size_t i : readable_) groups[digests_[i].sha256].push_back(i);
    for (const auto& [hash, group] : groups)
      if (group.size() > 1) equal_snapshots(group);
    // From here on one of each stands for all that equal it.
    distinct_ = readable_;
    std::erase_if(distinct_, [&](std::size_t i) {
      const auto& group = groups[digests_[i].sha256];
      return group.size() > 1 && i != kept_[digests_[i].sha256];
    });
  }

  void equal_snapshots(const std::vector<std::size_t>& group) {
    std::vector<std::int64_t> steps;
    for (const std::size_t i : group) steps.push_back(digests_[i].step);
    const std::string& hash = digests_[group[0]].sha256;
    if (is_beginning(group)) {
      kept_[hash] = group.back();
      for (std::size_t k = 0; k + 1 < group.size(); ++k) suspects_.insert(group[k]);  // no news
      if (group.size() == 2)
        return add("identical-first-steps", Level::Note, group[1], "",
                   fmt::format("equals step {}: with a warm-up from 0 the first update changes "
                               "nothing",
                               steps[0]));
      return add("identical-early-steps", Level::Warning, group.back(), "",
                 fmt::format("steps {} are equal: updates that mixed precision skipped, or copies",
                             list_steps(steps)));
    }
    const auto genuine = genuine_of(group);
    kept_[hash] = genuine.value_or(group[0]);
    for (const std::size_t i : group) {
      if (i == genuine) continue;
      add("identical-snapshots", Level::Error, i, "",
          fmt::format("steps {} have the same weights{}", list_steps(steps),
                      genuine
                          ? fmt::format("; they fit the path at step {}", digests_[*genuine].step)
                          : std::string()));
    }
    if (!genuine) suspects_.erase(group[0]);  // it stands for all of them
  }

  // The first snapshots, from step 0 on, before 16 updates.
  bool is_beginning(const std::vector<std::size_t>& group) const {
    if (digests_[group[0]].step != 0) return false;
    for (std::size_t k = 0; k < group.size(); ++k)
      if (k >= readable_.size() || group[k] != readable_[k] || digests_[group[k]].step > 16)
        return false;
    return group.size() > 2 || digests_[group[1]].step <= 1;
  }

  // Of snapshots that are equal the one whose place fits them: it is much nearer to its
  // neighbours, compared with how far those are from each other.
  std::optional<std::size_t> genuine_of(const std::vector<std::size_t>& group) const {
    std::vector<std::pair<double, std::size_t>> misfits;
    for (const std::size_t i : group) {
      std::optional<std::size_t> before, after;
      for (const std::size_t j : readable_) {
        if (digests_[j].sha256 == digests_[i].sha256) continue;
        if (j < i) before = j;
        if (j > i && !after) after = j;
      }
      std::vector<const SnapshotDigest*> near{&digests_[i]};
      for (const auto& j : {before, after})
        if (j) near.push_back(&digests_[*j]);
      if (near.size() < 2) return std::nullopt;
      const auto distances = squared_distances(near, shared_tensors(near));
      double sum = 0;
      for (std::size_t k = 1; k < near.size(); ++k) sum += std::sqrt(distances.at(0, k));
      // At an end there is one neighbour: as if the other were as far away.
      misfits.emplace_back(near.size() == 3 ? sum : 2 * sum, i);
    }
    std::sort(misfits.begin(), misfits.end());
    if (misfits[0].first * 1.3 < misfits[1].first) return misfits[0].second;
    return std::nullopt;
  }

  // --- single tensors of snapshots that differ ---

  using Names = std::vector<std::string>;
  using Places = std::vector<std::size_t>;  // in distinct_

  void tensors() {
    if (distinct_.size() < 2) return;
    std::vector<const SnapshotDigest*> all;
    for (const std::size_t i : distinct_) all.push_back(&digests_[i]);
    names_ = shared_tensors(all);
    std::map<std::pair<std::size_t, std::size_t>, Names> equal;
    std::map<Places, Names> unchanged;
    for (const std::string& name : names_) {
      std::map<std::string, Places> groups;
      for (std::size_t k = 0; k < distinct_.size(); ++k)
        groups[tensor(distinct_[k], name).sha256].push_back(k);
      for (const auto& [hash, group] : groups) {
        if (group.size() < 2 || tensor(distinct_[0], name).num_elements < 16) continue;
        const bool touches = group.back() - group.front() + 1 == group.size();
        if (touches && (group.size() > 2 || group.size() == distinct_.size()))
          unchanged[group].push_back(name);
        else if (has_to_move(name, group))
          for (std::size_t k = 1; k < group.size(); ++k)
            equal[{group[k - 1], group[k]}].push_back(name);
      }
    }
    for (const auto& [places, names] : equal) mixed(places.first, places.second, names);
    for (const auto& [group, names] : unchanged) report_unchanged(group, names);
  }

  double moved(const Names& names, std::size_t k, std::size_t l) const {
    double sum = 0;
    for (const std::string& name : names)
      sum += squared_distance(tensor(distinct_[k], name), tensor(distinct_[l], name));
    return sum;
  }
  Names all_but(const Names& names) const {
    Names rest;
    for (const std::string& name : names_)
      if (std::find(names.begin(), names.end(), name) == names.end()) rest.push_back(name);
    return rest;
  }
  // How far some tensors go when others go some way: the median over the steps at which those move,
  // without places `k` and `l`; 0 when there is none.
  double usual_share(const Names& names, const Names& rest, std::size_t k, std::size_t l) const {
    std::vector<double> shares;
    for (std::size_t m = 0; m + 1 < distinct_.size(); ++m) {
      if (m == k || m == l || m + 1 == k || m + 1 == l) continue;
      if (const double others = moved(rest, m, m + 1); others > 0)
        shares.push_back(moved(names, m, m + 1) / others);
    }
    if (shares.empty()) return 0;
    const auto middle = shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2);
    std::nth_element(shares.begin(), middle, shares.end());
    return *middle;
  }

  // Whether rounding cannot be why a tensor is equal at some places: as far as the others moved,
  // or as it moved in between, it should have gone more than half of what separates numbers.
  bool has_to_move(const std::string& name, const Places& group) const {
    const std::size_t k = group.front(), l = group.back();
    double expected = 0;
    for (std::size_t m = k + 1; m < l; ++m) expected = std::max(expected, moved({name}, k, m));
    if (expected == 0) {
      const Names rest = all_but({name});
      expected = usual_share({name}, rest, k, l) * moved(rest, k, l);
    }
    const TensorDigest& t = tensor(distinct_[k], name);
    const double size = std::max(t.sum_squares, expected);
    return expected > 0 && std::sqrt(expected / size) > 0.5 * ulp_of(t.dtype);
  }

  // Of two places with equal tensors the one is wrong where these are too far from the neighbours,
  // by how far the rest is from them. Both are named when that does not tell.
  void mixed(std::size_t k, std::size_t l, const Names& names) {
    const Names rest = all_but(names);
    const double share = std::max(usual_share(names, rest, k, l), 1e-300);
    const auto misfit = [&](std::size_t place, std::size_t other) {
      double worst = -std::numeric_limits<double>::infinity();
      for (std::size_t m : {place - 1, place + 1})  // before the first there is none: too large
        if (m < distinct_.size() && m != other)
          worst = std::max(worst, std::log((moved(names, place, m) + 1e-300) /
                                           (share * moved(rest, place, m) + 1e-300)));
      return worst;
    };
    const double at_k = misfit(k, l), at_l = misfit(l, k);
    if (at_k > at_l - kClear) report_mixed({distinct_[k], distinct_[l]}, names);
    if (at_l > at_k - kClear) report_mixed({distinct_[l], distinct_[k]}, names);
  }

  void report_unchanged(const Places& group, const Names& names) {
    const bool by_rounding = std::none_of(
        names.begin(), names.end(), [&](const auto& name) { return has_to_move(name, group); });
    if (by_rounding && group.size() != distinct_.size()) return;
    add("unchanged-tensor", Level::Note, distinct_[group.back()], names.size() == 1 ? names[0] : "",
        fmt::format("{} of {} tensors do not change from step {} to step {}: frozen? ({}{})",
                    names.size(), names_.size(), digests_[distinct_[group.front()]].step,
                    digests_[distinct_[group.back()]].step, escape_for_terminal(names[0]),
                    names.size() > 1 ? ", ..." : ""));
  }

  void report_mixed(const std::pair<std::size_t, std::size_t>& pair,
                    const std::vector<std::string>& names) {
    const auto& [wrong, other] = pair;
    // A shard, when it is all that one file holds and not the only file.
    std::set<Path> files, rest;
    for (const auto& [name, t] : digests_[wrong].tensors)
      (std::find(names.begin(), names.end(), name) != names.end() ? files : rest).insert(t.file);
    const bool is_shard = std::none_of(files.begin(), files.end(),
                                       [&](const Path& file) { return rest.contains(file); });
    // The path is judged by matrices: a few vectors that rounding may have made equal are no reason
    // to leave a snapshot out of it.
    const bool has_matrix = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return digests_[wrong].tensors.at(name).shape.size() >= 2;
    });
    if (has_matrix) suspects_.insert(wrong);
    report(
        "mixed-snapshot", Level::Error, wrong, names.size() == 1 ? names[0] : "",
        fmt::format("{} of {} tensors are those of step {}{}: {}{}", names.size(),
                    digests_[wrong].tensors.size(), digests_[other].step,
                    is_shard ? fmt::format(" (all of {})", files.begin()->filename().string()) : "",
                    escape_for_terminal(names[0]), names.size() > 1 ? ", ..." : ""));
  }

  const Digests& digests_;
  Findings& findings_;
  Suspects& suspects_;
  std::vector<std::size_t> readable_, distinct_;
  std::map<std::string, std::size_t> kept_;  // by hash: who stands for equal snapshots
  Names names_;
};

}  // namespace

void check_copies(const Digests& digests, Findings& findings, Suspects& suspects) {
  CopiesCheck(digests, findings, suspects).run();
}

}  // namespace cresco::trajectories
