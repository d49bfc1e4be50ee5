// What the release of the parameter-trajectory crosscoders keeps in `derived/`: arrays that
// analyses begin with. See docs/formats/derived.md.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/lifecycle/rate_lifecycle.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::lifecycle {

struct CusumNull;

// What is known of one dictionary; K snapshots, F features.
struct DerivedRun {
  std::string name;           // of the dictionary's files
  std::string model, matrix;  // "EleutherAI/pythia-160m", "W_U"
  std::int64_t seed = 0;
  std::vector<std::int64_t> steps;
  std::string input_preprocess;
  std::vector<dictionaries::SnapshotStatistics> statistics;             // K
  at::Tensor rates_KF, norms_KF, rotation_JF, distance_to_terminal_KF;  // double
  std::vector<RateLifecycle> lives;                                     // F
};

// What the files of dictionaries that differ by their seed alone begin with:
// "wu-pythia-160m-d8192".
std::string set_name(const DerivedRun& run);

// <set>__seed<S>/, aggregates/ and rates/<set>/ below `folder`; cusum_null.pt when there is a null.
// The paths, from the folder.
std::vector<std::string> write_derived(const Path& folder, const DerivedRun& run,
                                       const std::optional<CusumNull>& null);

// Arrays (S,K,F) of several seeds, in the order given. Error unless the runs differ by seed alone.
std::vector<std::string> write_derived_of_seeds(const Path& folder,
                                                const std::vector<DerivedRun>& runs);

}  // namespace cresco::lifecycle
