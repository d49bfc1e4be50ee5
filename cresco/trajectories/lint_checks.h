// The parts of lint(), each of which looks at one side of the digests.
#pragma once

#include "cresco/trajectories/lint.h"

#include <set>

namespace cresco::trajectories {

using Digests = std::vector<SnapshotDigest>;

// Indices of snapshots that something was found wrong with: the path is judged without them.
using Suspects = std::set<std::size_t>;

// Steps that are missing or too many.
void check_steps(const std::vector<std::int64_t>& steps, const std::string& preset,
                 Findings& findings);
// What each snapshot holds, by itself, by its config, and beside the others.
void check_contents(const Trajectory& trajectory, const Digests& digests, Findings& findings,
                    Suspects& suspects);
// Snapshots and tensors that are equal though they should have moved.
void check_copies(const Digests& digests, Findings& findings, Suspects& suspects);
// Snapshots that do not lie between their neighbours.
void check_path(const Digests& digests, const Suspects& suspects, Findings& findings);
// The states that a run of ours keeps beside its snapshots.
void check_states(const Trajectory& trajectory, const Digests& digests, Findings& findings);

}  // namespace cresco::trajectories
