// The part of `cresco eval` that sets a dictionary beside linear accounts of the same stack.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/dictionaries/pca.h"
#include "cresco/verbs/verb.h"

#include <optional>

namespace cresco::verbs {

// Exact PCA of all snapshots side by side: in the dictionary's own space, and of the raw snapshots
// about their means.
struct ExactPca {
  dictionaries::TrajectorySpectrum own, raw;
  std::int64_t rank_of_l0 = 0;
  dictionaries::TrajectoryPca at_l0;

  artifacts::Table table() const;
};
// Nothing, and a note, where rows and columns are both too many. `scaled`: the dictionary was
// trained on snapshots that were divided by their scale.
std::optional<ExactPca> exact_pca(const dictionaries::StackRows& rows, bool scaled, double l0,
                                  Progress& progress);

// linear_baselines.csv. With `pca` the exact values stand beside the randomised ones. `kinds`: of
// these alone (pca, concatenated_pca, endpoint_line, mean); none are all.
artifacts::Table baselines_table(const dictionaries::StackRows& rows,
                                 const std::optional<ExactPca>& pca, bool scaled,
                                 std::uint64_t seed, Progress& progress,
                                 const std::vector<std::string>& kinds = {});
Json baselines_json(const artifacts::Table& baselines);
// The table's columns for a terminal; how rows and alphas are spread stands in the file.
artifacts::Table what_they_explain(const artifacts::Table& baselines);
double baselines_flops(std::int64_t num_rows, std::int64_t num_heads, std::int64_t width);
double baselines_bytes(std::int64_t num_rows);

}  // namespace cresco::verbs
