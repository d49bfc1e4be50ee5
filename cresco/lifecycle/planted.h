// Whether a dictionary found features that are known: groups of rows that belong together.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/dictionaries/crosscoder.h"

#include <string>
#include <vector>

namespace cresco::lifecycle {

struct PlantedFeature {
  std::string name;
  std::vector<std::int64_t> rows;  // token ids
};

// For each planted feature the dictionary's feature whose rows fit it best: F1 of the rows on which
// it fires (at head k) against the planted rows, among `candidate_rows` only. Found: F1 of at least
// 0.8. Columns of planted.csv in docs/formats/tables.md.
artifacts::Table planted_table(const dictionaries::Crosscoder& crosscoder, const at::Tensor& x_VKD,
                               std::int64_t k, const std::vector<PlantedFeature>& planted);

}  // namespace cresco::lifecycle
