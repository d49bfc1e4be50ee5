#include "cresco/trajectories/lint.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/base/threads.h"
#include "cresco/families/pythia.h"
#include "cresco/trajectories/lint_checks.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <tuple>

namespace cresco::trajectories {
namespace {

// What a run's state.json and the weights beside it say.
void check_state(const Path& folder, std::int64_t step, const Digests& digests,
                 Findings& findings) {
  const Json state = read_json_file(folder / "state.json");
  const std::string where = (folder / "state.json").string();
  const std::int64_t own = get_int(state, "step", where);
  require(state.contains("optimizer"), "{}: 'optimizer' is missing", where);
  const std::int64_t updates = get_int(state["optimizer"], "num_steps", where);
  // Updates that mixed precision skipped are no optimizer steps.
  for (const auto& [key, says, fits] :
       {std::tuple("step", own, own == step),
        std::tuple("optimizer.num_steps", updates, updates > 0 && updates <= step)}) {
    if (fits) continue;
    findings.push_back({"foreign-state", Level::Error, step, "",
                        fmt::format("{}: '{}' is {}, its folder is step {}: the state of another "
                                    "step, a resumed run would not be this one",
                                    where, key, says, step)});
    return;
  }
  const auto found = std::find_if(digests.begin(), digests.end(),
                                  [&](const auto& digest) { return digest.step == step; });
  if (found == digests.end() || !found->is_readable()) return;
  const formats::StoredTensor* first = nullptr;
  std::int64_t different = 0, compared = 0;
  const Snapshot weights = open_weights_file(folder / "state.safetensors", step, folder);
  for (const auto& [name, snapshot] : found->tensors) {
    const formats::StoredTensor* const stored = formats::find_tensor(weights.tensors(), name);
    if (!stored || stored->shape != snapshot.shape || !snapshot.is_real) continue;
    ++compared;
    const TensorDigest own = digest_of(*stored);
    // Rounded to the snapshot's type they are within an ulp; far below that, within what is lost.
    const float ulp = snapshot.dtype == formats::DType::BF16  ? 0x1p-7f
                      : snapshot.dtype == formats::DType::F16 ? 0x1p-10f
                                                              : 0;
    const float lost = snapshot.dtype == formats::DType::F16 ? 0x1p-24f : 0;
    bool equal = own.sample.size() == snapshot.sample.size();
    for (std::size_t i = 0; equal && i < own.sample.size(); ++i)
      equal = std::abs(own.sample[i] - snapshot.sample[i]) <= ulp * std::abs(own.sample[i]) + lost;
    if (equal) continue;
    ++different;
    if (!first) first = stored;
  }
  if (different > 0)
    findings.push_back({"foreign-state", Level::Error, step, first->name,
                        fmt::format("{}: {} of {} tensors are not those of the snapshot: the state "
                                    "of another step or run",
                                    (folder / "state.safetensors").string(), different, compared)});
}

// What others have reported of the published weights of this name. The copy at hand may be a later
// one, so this is never more than a warning: the checks of the weights themselves decide.
void check_known_faults(const Trajectory& trajectory, const std::vector<std::int64_t>& steps,
                        Findings& findings) {
  const std::string name = Path(trajectory.model()).filename().string();
  for (const families::KnownFault& fault : families::pythia_known_faults()) {
    if (fault.model != name) continue;
    for (const std::int64_t step : fault.steps)
      if (std::find(steps.begin(), steps.end(), step) != steps.end())
        findings.push_back({"known-fault", fault.repaired ? Level::Note : Level::Warning, step, "",
                            fmt::format("{} ({}, {}{})", fault.what, fault.source, fault.reported,
                                        fault.repaired ? ", repaired since" : "")});
  }
}

}  // namespace

std::string name_of(Level level) {
  return level == Level::Error ? "error" : level == Level::Warning ? "warning" : "note";
}

void check_steps(const std::vector<std::int64_t>& steps, const std::string& preset,
                 Findings& findings) {
  if (!preset.empty()) {
    const auto wanted = named_steps(preset, steps.back());
    const std::set<std::int64_t> there(steps.begin(), steps.end());
    for (const std::int64_t step : wanted)
      if (!there.contains(step))
        findings.push_back({"missing-step", Level::Error, step, "",
                            fmt::format("is of '{}' and is not there", preset)});
    for (const std::int64_t step : steps)
      if (!std::binary_search(wanted.begin(), wanted.end(), step))
        findings.push_back(
            {"surplus-step", Level::Note, step, "", fmt::format("is not of '{}'", preset)});
    return;
  }
  // An interval that is a multiple of the three on each side of it, which are equal.
  for (std::size_t i = 3; i + 4 < steps.size(); ++i) {
    const std::int64_t usual = steps[i] - steps[i - 1], here = steps[i + 1] - steps[i];
    bool regular = here > usual && here % usual == 0;
    for (const std::size_t k : {i - 2, i - 1, i + 2, i + 3, i + 4})
      regular = regular && steps[k] - steps[k - 1] == usual;
    if (regular)
      findings.push_back(
          {"step-gap", Level::Warning, steps[i] + usual, "",
           fmt::format("{} missing between {} and {}: the steps around come every {}",
                       here == 2 * usual ? "is" : fmt::format("and {} more are", here / usual - 2),
                       steps[i], steps[i + 1], usual)});
  }
}

void check_states(const Trajectory& trajectory, const Digests& digests, Findings& findings) {
  if (trajectory.layout() != "run") return;
  std::error_code error;
  std::vector<std::pair<std::int64_t, Path>> states;
  for (const auto& entry : std::filesystem::directory_iterator(trajectory.path() / "state", error))
    if (const auto revision = parse_revision(entry.path().filename().string());
        revision && std::filesystem::exists(entry.path() / "state.json"))
      states.emplace_back(revision->step, entry.path());
  std::sort(states.begin(), states.end());
  for (const auto& [step, folder] : states) {
    try {
      check_state(folder, step, digests, findings);
    } catch (const Error& e) {
      findings.push_back({"unreadable-state", Level::Error, step, "", e.what()});
    }
  }
}

bool LintReport::ok() const {
  return std::none_of(findings.begin(), findings.end(),
                      [](const Finding& finding) { return finding.level == Level::Error; });
}

LintReport lint(const Trajectory& trajectory, const LintConfig& config, Progress& progress) {
  const auto steps = choose_steps(config.steps, trajectory.steps(), trajectory.path().string());
  LintReport report;
  report.snapshots.resize(steps.size());
  std::mutex mutex;
  std::int64_t done = 0;
  const double started = now_seconds();
  progress.begin("lint", static_cast<std::int64_t>(steps.size()), "snapshot");
  parallel_for(static_cast<std::int64_t>(steps.size()), [&](std::int64_t i) {
    if (interrupted()) throw Interrupted("interrupted: nothing was written");
    SnapshotDigest digest = digest_of(trajectory, steps[static_cast<std::size_t>(i)]);
    const std::lock_guard lock(mutex);
    report.num_bytes += digest.num_bytes;
    report.snapshots[static_cast<std::size_t>(i)] = std::move(digest);
    progress.update(++done, human_bytes(static_cast<double>(report.num_bytes) /
                                        (now_seconds() - started + 1e-9)) +
                                "/s");
  });
  progress.end();

  Suspects suspects;
  check_steps(steps, config.preset, report.findings);
  for (const std::string& note : trajectory.notes())
    report.findings.push_back({"left-out", Level::Note, std::nullopt, "", note});
  check_contents(trajectory, report.snapshots, report.findings, suspects);
  check_copies(report.snapshots, report.findings, suspects);
  check_path(report.snapshots, suspects, report.findings);
  check_states(trajectory, report.snapshots, report.findings);
  check_known_faults(trajectory, steps, report.findings);
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const Finding& a, const Finding& b) {
                     if (a.level != b.level) return a.level > b.level;
                     return a.step.value_or(-1) < b.step.value_or(-1);
                   });
  return report;
}

Json findings_json(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings)
    list.push_back({{"code", finding.code},
                    {"level", name_of(finding.level)},
                    {"step", finding.step ? Json(*finding.step) : Json()},
                    {"tensor", finding.tensor.empty() ? Json() : Json(finding.tensor)},
                    {"message", finding.message}});
  return list;
}

std::string findings_text(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings)
    text += fmt::format("{:<8} {:>8}  {:<22} {}{}\n", name_of(finding.level),
                        finding.step ? std::to_string(*finding.step) : "-", finding.code,
                        finding.tensor.empty() ? "" : escape_for_terminal(finding.tensor) + ": ",
                        escape_for_terminal(finding.message));
  return text;
}

}  // namespace cresco::trajectories
