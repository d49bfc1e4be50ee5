// Several trainings that share what they read: values of settings, in every combination.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/dictionaries/training.h"

#include <string>
#include <utility>
#include <vector>

namespace cresco::dictionaries {

// One swept setting and its values, as they were typed.
struct SweepAxis {
  std::string key;
  std::vector<std::string> values;
};

// "l1_coefficient=0.3,0.4,1.0" or "seed=0..4" (whole numbers, both ends). UsageError for anything
// else, for a key that comes twice and for a value that does, however it is spelled.
std::vector<SweepAxis> parse_sweep(const std::vector<std::string>& words);

// One choice of a value on each axis.
using SweepValues = std::vector<std::pair<std::string, std::string>>;
std::vector<SweepValues> combinations(const std::vector<SweepAxis>& axes);
// "l1_coefficient_0.3_seed_0"; "" without values.
std::string member_name(const SweepValues& values);

struct SweepMember {
  std::string name;    // its folder inside the sweep's
  SweepValues values;  // columns of the table
  TrainingRun run;
  const TrainingData* data = nullptr;
};

// Trains the members, each in its own folder below `folder`, taking steps in turn; each comes out
// bitwise as it would alone. With `fuse`, members that read the same batches (those with one seed)
// take them through their encoders in one product: equal to rounding; notes say which do and which
// never can. Those that are complete are left as they are, others go on from their newest states.
// As many are in memory at once as `memory_bytes` holds, at least one. Interrupted, with all states
// written, after a stop that was asked for. `finished` hears of each that ends, or had: what is
// complete is measured again for it.
//
// Returns sweep.csv, a row a member: member, the swept settings, explained_variance_pooled, l0,
// dead_rate_1e-6, reconstruction_mse, final_l1_coefficient, folder.
artifacts::Table train_sweep(const std::vector<SweepMember>& members, const Path& folder,
                             double memory_bytes, bool fuse, Progress& progress,
                             const std::function<void(const TrainingOutcome&)>& finished = {});

}  // namespace cresco::dictionaries
