#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/trajectories/lint.h"
#include "cresco/trajectories/lint_distances.h"

#include <algorithm>
#include <cmath>

namespace cresco::trajectories {
namespace {

const SnapshotDigest* find_step(const LintReport& report, std::int64_t step) {
  for (const SnapshotDigest& digest : report.snapshots)
    if (digest.step == step && digest.is_readable() && !digest.tensors.empty()) return &digest;
  return nullptr;
}

// Corpus, seed and order of runs of ours; null for anything else.
Json data_order_of(const Trajectory& trajectory) {
  const Path file = trajectory.path() / "data_order.json";
  if (trajectory.layout() != "run" || !std::filesystem::exists(file)) return Json();
  Json order = read_json_file(file);
  // A recipe that took over without another batch or other data reads on as if it had not.
  if (order.is_object() && order.contains("begins")) {
    const std::string where = file.string();
    const Json& begins = order["begins"];
    if (get_int(begins, "place", where) ==
        get_int(begins, "step", where) * get_int(order, "sequences_per_step", where))
      order.erase("begins");
  }
  return order;
}

// |a - b| / sqrt(|a| |b|) over the tensors that both have; nothing when there is none.
std::optional<double> relative_distance(const SnapshotDigest& a, const SnapshotDigest& b,
                                        const std::vector<std::string>& shared) {
  double squared = 0, norm_a = 0, norm_b = 0;
  for (const std::string& name : shared) {
    squared += squared_distance(a.tensors.at(name), b.tensors.at(name));
    norm_a += a.tensors.at(name).sum_squares;
    norm_b += b.tensors.at(name).sum_squares;
  }
  if (!(norm_a > 0 && norm_b > 0)) return std::nullopt;
  return std::sqrt(squared / std::sqrt(norm_a * norm_b));
}

}  // namespace

Json compare(const Trajectory& a, const LintReport& report_a, const Trajectory& b,
             const LintReport& report_b, Findings& findings) {
  const auto note = [&](const char* code, Level level, std::optional<std::int64_t> step,
                        std::string message) {
    findings.push_back({code, level, step, "", std::move(message)});
  };
  std::vector<std::int64_t> common, identical;
  Json distances = Json::array();
  for (const SnapshotDigest& x : report_a.snapshots) {
    const SnapshotDigest* const y = find_step(report_b, x.step);
    if (!y || !find_step(report_a, x.step)) continue;
    common.push_back(x.step);
    const auto shared = shared_tensors({&x, y});
    const bool same = x.sha256 == y->sha256;
    if (same) identical.push_back(x.step);
    const Correlation c = correlation(x, *y, shared);
    const auto distance = relative_distance(x, *y, shared);
    distances.push_back({{"step", x.step},
                         {"identical", same},
                         {"relative_distance", distance ? Json(*distance) : Json()},
                         {"correlation", same ? 1.0 : c.value}});
  }
  Json out{{"other", b.path().string()},
           {"same_run", !common.empty() && common.size() == identical.size()},
           {"same_initialisation", nullptr},
           {"same_data_order", nullptr},
           {"common_steps", common},
           {"identical_steps", identical},
           {"last_identical_step", identical.empty() ? Json() : Json(identical.back())},
           {"diverge_after_step", nullptr},
           {"distances", distances}};
  if (common.empty()) {
    note("no-common-step", Level::Warning, std::nullopt,
         fmt::format("{} has none of the steps {}", b.path().string(), list_steps(a.steps())));
    return out;
  }

  // At step 0, else as far back as both go: rounding aside, equal weights correlate with 1.
  const SnapshotDigest &first_a = *find_step(report_a, common[0]),
                       &first_b = *find_step(report_b, common[0]);
  const Correlation c = correlation(first_a, first_b, shared_tensors({&first_a, &first_b}));
  const bool equal = first_a.sha256 == first_b.sha256;
  if (equal || common[0] == 0 || c.value < std::max(6 * c.deviation, 0.02))
    out["same_initialisation"] = equal || c.value > 0.9999;

  const Json order_a = data_order_of(a), order_b = data_order_of(b);
  if (!order_a.is_null() && !order_b.is_null()) {
    const std::string changed = first_difference(order_a, order_b);
    out["same_data_order"] = changed.empty();
    note("data-order", Level::Note, std::nullopt,
         changed.empty() ? "both read the same data in the same order"
                         : fmt::format("their data differ: {}", escape_for_terminal(changed)));
  }

  std::size_t prefix = 0;
  while (prefix < common.size() && prefix < identical.size() && common[prefix] == identical[prefix])
    ++prefix;
  if (out["same_run"].get<bool>()) {
    note("same-run", Level::Note, std::nullopt,
         fmt::format("all {} common steps have the same weights", common.size()));
  } else {
    if (!out["same_initialisation"].is_null())
      note(out["same_initialisation"].get<bool>() ? "same-initialisation"
                                                  : "different-initialisation",
           Level::Note, common[0],
           equal ? "both have the same weights"
                 : fmt::format("their weights correlate with {:.4f}", c.value));
    if (prefix > 0) {
      out["diverge_after_step"] = common[prefix - 1];
      note("diverge", Level::Note, common[prefix - 1],
           fmt::format("both have the same weights up to here; they differ at step {}",
                       common[prefix]));
    }
    // Two runs that have parted do not meet again.
    for (const std::int64_t step : identical)
      if (step > common[std::min(prefix, common.size() - 1)])
        note("identical-after-divergence", Level::Error, step,
             fmt::format("both have the same weights, though they differ at step {}: one of the "
                         "two holds the other's snapshot",
                         common[prefix]));
  }
  return out;
}

}  // namespace cresco::trajectories
