// What an earlier lint found about the snapshots that a verb is about to use.
#pragma once

#include "cresco/trajectories/trajectory.h"

#include <string>
#include <vector>

namespace cresco::trajectories {

// One line, "" when there is nothing to say: how many of `steps` have errors in `lint_json`, which
// is a lint.json, a folder that holds one, or "" for the one in the trajectory's own folder, if
// there is one. Error when the file that was named is missing or is no lint.json.
std::string lint_warning(const Trajectory& trajectory, const std::vector<std::int64_t>& steps,
                         const std::string& lint_json);

}  // namespace cresco::trajectories
