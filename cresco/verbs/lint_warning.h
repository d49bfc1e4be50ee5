// For verbs that are about to use snapshots of a trajectory.
#pragma once

#include "cresco/trajectories/lint_warnings.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

// A line of progress when an earlier lint found errors at these steps.
inline void warn_of_findings(const trajectories::Trajectory& trajectory,
                             const std::vector<std::int64_t>& steps, VerbContext& context) {
  const std::string line = trajectories::lint_warning(trajectory, steps, context.options.lint);
  if (!line.empty()) context.progress.note(line);
}

}  // namespace cresco::verbs
