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
                      genuine ? fmt::format("; they fit the path at step {}",
                                            digests_[*genuine].step)
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

  void tensors() {
    if (distinct_.size() < 2) return;
    std::vector<const SnapshotDigest*> all;
    for (const std::size_t i : distinct_) all.push_back(&digests_[i]);
    names_ = shared_tensors(all);
    // (wrong snapshot, the other one) -> tensors
    std::map<std::pair<std::size_t, std::size_t>, std::vector<std::string>> mixed;
    std::map<std::vector<std::size_t>, std::vector<std::string>> unchanged;
    for (const std::string& name : names_) {
      std::map<std::string, std::vector<std::size_t>> groups;  // places in distinct_
      for (std::size_t k = 0; k < distinct_.size(); ++k)
        groups[tensor(distinct_[k], name).sha256].push_back(k);
      for (const auto& [hash, group] : groups) {
        if (group.size() < 2 || tensor(distinct_[0], name).num_elements < 16) continue;
        const bool touches = group.back() - group.front() + 1 == group.size();
        if (touches && (group.size() > 2 || group.size() == distinct_.size()))
          unchanged[group].push_back(name);
        else if (has_to_move(name, group))
          for (std::size_t k = 1; k < group.size(); ++k)
            for (const auto& pair : wrong_of(name, group[k - 1], group[k]))
              mixed[pair].push_back(name);
      }
    }
    // Where a tensor alone does not tell which of the two is wrong, the others may.
    for (const auto& [pair, names] : mixed) {
      const auto turned = mixed.find({pair.second, pair.first});
      if (turned == mixed.end() || 5 * names.size() >= 4 * turned->second.size())
        report_mixed(pair, names);
    }
    for (const auto& [group, names] : unchanged) {
      bool by_rounding = true;
      for (const std::string& name : names)
        by_rounding = by_rounding && !has_to_move(name, group);
      if (by_rounding && group.size() != distinct_.size()) continue;
      add("unchanged-tensor", Level::Note, distinct_[group.back()],
          names.size() == 1 ? names[0] : "",
          fmt::format("{} of {} tensors do not change from step {} to step {}: frozen? ({}{})",
                      names.size(), names_.size(), digests_[distinct_[group.front()]].step,
                      digests_[distinct_[group.back()]].step, names[0],
                      names.size() > 1 ? ", ..." : ""));
    }
  }

  double moved(const std::string& name, std::size_t k, std::size_t l) const {
    return squared_distance(tensor(distinct_[k], name), tensor(distinct_[l], name));
  }
  // The same of all other tensors that are not equal there: how much the snapshots moved.
  double rest_moved(const std::string& name, std::size_t k, std::size_t l) const {
    double sum = 0;
    for (const std::string& other : names_)
      if (other != name) sum += moved(other, k, l);
    return sum;
  }
  // How far this tensor goes when the others go some way: the median over the steps at which it
  // goes at all, without places `k` and `l`.
  double usual_share(const std::string& name, std::size_t k, std::size_t l) const {
    std::vector<double> shares;
    for (std::size_t m = 0; m + 1 < distinct_.size(); ++m) {
      if (m == k || m == l || m + 1 == k || m + 1 == l) continue;
      const double rest = rest_moved(name, m, m + 1);
      if (rest > 0) shares.push_back(moved(name, m, m + 1) / rest);
    }
    if (shares.empty()) return 0;
    std::nth_element(shares.begin(), shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2),
                     shares.end());
    return shares[shares.size() / 2];
  }

  // Whether rounding cannot be why the tensor is equal at two places: as far as the others moved,
  // this one should have moved by more than half of what separates neighbouring numbers.
  bool has_to_move(const std::string& name, const std::vector<std::size_t>& group) const {
    const std::size_t k = group.front(), l = group.back();
    double expected = 0;
    for (std::size_t m = k + 1; m < l; ++m) expected = std::max(expected, moved(name, k, m));
    if (expected == 0) expected = usual_share(name, k, l) * rest_moved(name, k, l);
    const TensorDigest& t = tensor(distinct_[k], name);
    const double size = std::max(t.sum_squares, expected);
    return expected > 0 && std::sqrt(expected / size) > 0.5 * ulp_of(t.dtype);
  }

  // Which of two places has the other's tensor: the one where it is too far from the neighbours.
  // Both, when that does not tell.
  std::vector<std::pair<std::size_t, std::size_t>> wrong_of(const std::string& name, std::size_t k,
                                                            std::size_t l) const {
    const double share = std::max(usual_share(name, k, l), 1e-300);
    const auto misfit = [&](std::size_t place, std::size_t other) {
      double worst = -std::numeric_limits<double>::infinity();
      for (const std::ptrdiff_t side : {-1, 1}) {
        const auto next = static_cast<std::ptrdiff_t>(place) + side;
        if (next < 0 || next >= static_cast<std::ptrdiff_t>(distinct_.size()) ||
            next == static_cast<std::ptrdiff_t>(other))
          continue;
        const auto m = static_cast<std::size_t>(next);
        worst = std::max(worst, std::log(std::max(moved(name, place, m), 1e-300) /
                                         (share * rest_moved(name, place, m) + 1e-300)));
      }
      return worst;
    };
    const double at_k = misfit(k, l), at_l = misfit(l, k);
    const std::size_t i = distinct_[k], j = distinct_[l];
    if (at_k > at_l + 0.4) return {{i, j}};
    if (at_l > at_k + 0.4) return {{j, i}};
    return {{i, j}, {j, i}};
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
    add("mixed-snapshot", Level::Error, wrong, names.size() == 1 ? names[0] : "",
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
  std::vector<std::string> names_;
};

}  // namespace

void check_copies(const Digests& digests, Findings& findings, Suspects& suspects) {
  CopiesCheck(digests, findings, suspects).run();
}

}  // namespace cresco::trajectories
