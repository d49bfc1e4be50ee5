#include "cresco/trajectories/trajectory.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>

namespace cresco::trajectories {

Trajectory::Trajectory(const Path& path) : layout_(recognise(path)) {
  for (const SnapshotPlace& place : layout_.places) steps_.push_back(place.step);
}

const SnapshotPlace& Trajectory::place(std::int64_t step) const {
  const auto found = std::lower_bound(steps_.begin(), steps_.end(), step);
  require(found != steps_.end() && *found == step, "{}: has no step {}; it has {}", path().string(),
          step, list_steps(steps_));
  return layout_.places[static_cast<std::size_t>(found - steps_.begin())];
}

}  // namespace cresco::trajectories
