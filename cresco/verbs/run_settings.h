// What the folder of a run says of how it is trained, and how that becomes another one on the way.
#pragma once

#include "cresco/pretrain/data.h"
#include "cresco/pretrain/run_folder.h"
#include "cresco/verbs/vocabulary.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::verbs {

struct RunSettings {
  pretrain::Recipe recipe;  // vocab_size resolved
  Json data_order;
  Vocabulary vocabulary;
};

// config.json, tokenizer.json, data_order.json and, last, recipe.yaml: with it, it is a run.
void write_settings(const pretrain::RunFolder& run, const RunSettings& settings);

// UsageError for a field of --allow-change that no recipe has: it would allow nothing.
void check_allowed(const std::vector<std::string>& allowed);

// What `settings` change of a run that goes on; none: `data_order` and the recipe's `begins` become
// the run's own. Otherwise they say where the changed recipe takes over: at the newest state, with
// other training data from their first window on. Error for a change that is not allowed, one that
// only a run's start could follow, one that leaves nothing to train, and when there is no state.
std::vector<Difference> changes_of(const pretrain::RunFolder& run, RunSettings& settings,
                                   const std::vector<std::string>& allowed);

// From here on the run is one of `settings`. What held for the updates before stays in earlier/,
// and the manifest says what is another one and since which step; what was written after that step,
// by settings that it was not gone on with, goes. Killed on the way and started again, it ends the
// same.
void record_changes(const pretrain::RunFolder& run, const RunSettings& settings,
                    const std::vector<Difference>& changes);

}  // namespace cresco::verbs
