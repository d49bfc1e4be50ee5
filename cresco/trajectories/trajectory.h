// A trajectory: all snapshots of one training, opened from any layout we know.
#pragma once

#include "cresco/trajectories/layouts.h"
#include "cresco/trajectories/open_snapshot.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

class Trajectory {
 public:
  // Recognises the layout; Error that says what was looked for when none fits.
  explicit Trajectory(const Path& path);

  const Path& path() const { return layout_.path; }
  const std::string& layout() const { return layout_.name; }
  const std::string& model() const { return layout_.model; }
  const std::vector<std::int64_t>& steps() const { return steps_; }  // ascending
  const SnapshotPlace& place(std::int64_t step) const;               // Error names the steps
  Snapshot open(std::int64_t step) const { return layout_.open(place(step)); }
  // tokenizer.json of the trajectory, when it has one.
  const std::optional<Path>& tokenizer() const { return layout_.tokenizer; }
  const std::vector<std::string>& notes() const { return layout_.notes; }

 private:
  Layout layout_;
  std::vector<std::int64_t> steps_;
};

}  // namespace cresco::trajectories
