// Which dictionaries `train` would train, with which settings: what `plan` has in common with it.
#pragma once

#include "cresco/dictionaries/sweep.h"
#include "cresco/dictionaries/training.h"
#include "cresco/verbs/train.h"

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::verbs {

// One dictionary that is to be trained, and the snapshots it is of.
struct Member {
  dictionaries::SweepValues values;
  TrainConfig config;
  std::uint64_t seed;
  std::vector<std::int64_t> indices;  // among the stack's snapshots
};

// All together for a crosscoder, each by itself for single-snapshot dictionaries.
std::vector<std::vector<std::int64_t>> grouped(const TrainConfig& config,
                                               const std::vector<std::int64_t>& indices);
// The snapshots of the stack that the settings choose, grouped.
std::vector<std::vector<std::int64_t>> snapshots_of(const TrainConfig& config,
                                                    const trajectories::Stack& stack);
// One for each combination of the sweep's values and group of snapshots. `steps` are the stack's.
std::vector<Member> members_of(const TrainConfig& config,
                               const std::vector<std::vector<std::int64_t>>& snapshots,
                               const std::vector<std::int64_t>& steps, const VerbContext& context);

dictionaries::TrainingRun training_run(const Member& member, const std::string& matrix,
                                       const std::vector<std::int64_t>& steps, std::int64_t width,
                                       const VerbContext& context);

// What cannot fit is refused before anything is read or written; `what` begins the message, `more`
// ends it.
void require_memory(const dictionaries::TrainingRun& run, const dictionaries::TrainingPlan& plan,
                    const dictionaries::TrainingShape& shape, const std::string& what,
                    const std::string& more = "");

}  // namespace cresco::verbs
