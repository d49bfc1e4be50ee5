// The line of a finished training in a CSV of all of them, in the columns of the reference's sweep
// manifest.
#pragma once

#include "cresco/dictionaries/training.h"

#include <string>

namespace cresco::verbs {

// Adds or replaces the row whose `path` is that of the dictionary; other rows and columns stay.
// CUSUM_p is left as it is: the training does not know it.
void append_to_manifest(const Path& csv, const dictionaries::TrainingOutcome& trained,
                        const std::string& kind, const trajectories::Stack& stack,
                        const std::string& notes);

}  // namespace cresco::verbs
