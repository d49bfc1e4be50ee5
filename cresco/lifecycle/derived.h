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

// Of dictionaries that differ by their seed alone, as the release calls such a set: the matrix, the
// model and the size. Of Pythia only the size is named, and that of 160m is not: "wu-d8192",
// "wu-1b-d24576".
std::string set_name(const DerivedRun& run);

struct DerivedSet {
  std::string name;
  bool has_seeds = false;  // rates/ has one folder, <name>-multiseed, for all of them
};

// <set>__seed<S>/, aggregates/ and rates/<set>/ below `folder`; cusum_null.pt when there is a null.
// The paths, from the folder.
std::vector<std::string> write_derived(const Path& folder, const DerivedSet& set,
                                       const DerivedRun& run, const std::optional<CusumNull>& null);

// Error unless the runs differ by seed and name alone. Looks at no number.
void check_seeds(const std::vector<DerivedRun>& runs);
// Arrays (S,K,F) of several seeds, in the order given.
std::vector<std::string> write_derived_of_seeds(const Path& folder, const DerivedSet& set,
                                                const std::vector<DerivedRun>& runs);

}  // namespace cresco::lifecycle
