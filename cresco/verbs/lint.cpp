#include "cresco/verbs/lint.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/threads.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>
#include <optional>

namespace cresco::verbs {
namespace {

using trajectories::Finding;
using trajectories::Level;
using trajectories::LintReport;
using trajectories::Trajectory;

std::int64_t count(const trajectories::Findings& findings, Level level) {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.level == level; });
}

}  // namespace

Outcome run_lint(const LintVerbConfig& config, VerbContext& context) {
  require_usage(config.trajectories.size() <= 2, "lint takes one trajectory or two, {} were given",
                config.trajectories.size());
  const Trajectory trajectory(config.trajectories[0]);
  const auto steps =
      trajectories::choose_steps(config.lint.steps, trajectory.steps(), trajectory.path().string());
  std::optional<Trajectory> other;
  if (config.trajectories.size() == 2) other.emplace(config.trajectories[1]);
  if (context.options.dry_run)
    return {.text = fmt::format("would read {} snapshots of a trajectory of layout {}: {}\n",
                                steps.size(), trajectory.layout(), list_steps(steps))};
  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite,
                   std::vector<Path>{trajectory.path()});
  watch_for_interrupts();

  const double started = now_seconds();
  LintReport report = trajectories::lint(trajectory, config.lint, context.progress);
  std::int64_t num_bytes = report.num_bytes;
  Json summary;
  summary["ok"] = false;  // the first key; set below
  summary["layout"] = trajectory.layout();
  summary["model"] = trajectory.model();
  summary["steps"] = steps;
  summary["num_bytes"] = num_bytes;
  if (other) {
    // The other's own faults are its own lint's business: here only what the two say together.
    trajectories::LintConfig all;
    const LintReport of_other = trajectories::lint(*other, all, context.progress);
    num_bytes += of_other.num_bytes;
    summary["comparison"] =
        trajectories::compare(trajectory, report, *other, of_other, report.findings);
  }
  const double seconds = now_seconds() - started;
  summary["ok"] = report.ok();
  summary["findings"] = trajectories::findings_json(report.findings);
  summary["bytes_per_second"] = static_cast<double>(num_bytes) / std::max(seconds, 1e-9);

  Outcome outcome{.summary = summary, .exit_code = report.ok() ? 0 : 1};
  outcome.text =
      trajectories::findings_text(report.findings) +
      fmt::format("{} errors, {} warnings, {} notes about {} snapshots ({} at {}/s)\n",
                  count(report.findings, Level::Error), count(report.findings, Level::Warning),
                  count(report.findings, Level::Note), steps.size(),
                  human_bytes(static_cast<double>(num_bytes)),
                  human_bytes(summary["bytes_per_second"].get<double>()));
  if (output) {
    summary.erase("bytes_per_second");  // the same trajectory gives the same file
    write_json_file(output->folder() / "lint.json", summary);
    artifacts::Manifest manifest = manifest_of("lint", config, context);
    manifest.facts = {{"trajectory", trajectory.path().string()}};
    artifacts::write_manifest(output->folder(), manifest);
    output->commit();
  }
  return outcome;
}

}  // namespace cresco::verbs
