// Which dictionaries `train` would train, with which settings, and what that takes: what `plan` has
// in common with it.
#pragma once

#include "cresco/dictionaries/sweep.h"
#include "cresco/dictionaries/training.h"
#include "cresco/verbs/train.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace cresco::verbs {

// One dictionary that is to be trained, and the snapshots it is of.
struct Member {
  dictionaries::SweepValues values;
  TrainConfig config;
  std::uint64_t seed;
  std::vector<std::int64_t> indices;  // among the stack's snapshots
  dictionaries::TrainingRun run;
  dictionaries::TrainingShape shape;
  dictionaries::TrainingPlan plan;
};

// What the trainings read, or would read.
struct MemberSource {
  std::string matrix;
  std::vector<std::int64_t> steps;  // of all snapshots
  std::int64_t rows = 0, width = 0, ranks = 1;
  at::DeviceType device = at::kCPU;  // that trains
};

// All together for a crosscoder, each by itself for single-snapshot dictionaries; with `smoke` of
// the first and the last.
std::vector<std::vector<std::int64_t>> grouped(const TrainConfig& config,
                                               std::vector<std::int64_t> indices);
// The snapshots of the stack that the settings choose, grouped.
std::vector<std::vector<std::int64_t>> snapshots_of(const TrainConfig& config,
                                                    const trajectories::Stack& stack);
// One for each combination of the sweep's values and group of snapshots. UsageError for settings
// that do not go together, or that were given and the kind does not have.
std::vector<Member> members_of(const TrainConfig& config,
                               const std::vector<std::vector<std::int64_t>>& snapshots,
                               const MemberSource& source, const VerbContext& context);

// Of d_sae and expansion_factor the one that was given, where only one was: the other may be a
// recipe's.
void keep_given_size(const std::set<std::string>& given, std::int64_t& d_sae,
                     double& expansion_factor);

// Memory of several trainings in one process. Their rows are there all the time, those of the same
// snapshots once; so is the program, and one measurement at a time.
struct MemoryNeed {
  double resident = 0;   // rows of all
  double rows_here = 0;  // of these in the process: with a GPU one set at a time, on its way there
  double once = 0;       // program and measurement
  double parameter = 0;  // weights and moments of all, where they are not on a GPU
  double one = 0;        // with one training at a time
  double all = 0;        // with all at once; on a GPU they are taken one after the other
  double gpu = 0;  // on the GPU that trains, one at a time; the others then are of its process
};
MemoryNeed memory_of(const std::vector<Member>& members);
const Member& largest_of(const std::vector<Member>& members);  // by memory

// What cannot fit is refused before anything is read or written; `what` begins the message, `more`
// ends it. The ranks that share this machine are counted together: all have to ask.
void require_memory(const std::vector<Member>& members, const std::string& what, at::Device device,
                    const std::string& more = "");

}  // namespace cresco::verbs
