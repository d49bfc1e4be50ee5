// cresco train STACK --kind pca: linear accounts of a stack, which take no steps and have no
// features. What they explain goes to linear_baselines.csv, to set beside a dictionary.
#pragma once

#include "cresco/verbs/train.h"

#include <string>
#include <vector>

namespace cresco::verbs {

// pca (of each snapshot by itself), concatenated_pca, endpoint_line, mean.
const std::vector<std::string>& baseline_kinds();
bool is_baseline(const std::string& kind);

// Summary: `kind`, `baselines` (the rows of the table), `folder`. UsageError for settings of
// trainings.
Outcome run_baseline(const TrainConfig& config, VerbContext& context);

}  // namespace cresco::verbs
