// How well a crosscoder reconstructs, over all rows, with sums in double. The formula of every id
// stands in docs/metrics.md.
#pragma once

#include "cresco/dictionaries/crosscoder.h"

#include <nlohmann/json_fwd.hpp>

#include <vector>

namespace cresco::dictionaries {

struct SnapshotQuality {
  double explained_variance =
      0;  // about the column means; NaN for a snapshot whose rows are all alike
  double l0 = 0;
  double dead_rate = 0;  // id dead_rate_1e-4
};

struct Quality {
  double explained_variance_pooled = 0;  // about one mean of all numbers; 0 when they are all alike
  double reconstruction_mse = 0, l0 = 0;
  double dead_rate = 0;  // id dead_rate_1e-6
  std::int64_t num_rows = 0;
  std::vector<SnapshotQuality> snapshots;
  at::Tensor rates_KF;  // double: share of rows on which the gate is open
};

// x_VKD is preprocessed. Rows are taken in blocks that need about `block_bytes` of memory.
Quality measure_quality(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                        std::int64_t block_bytes = std::int64_t{64} << 20);

// {"pooled": {id: value}, "snapshots": [{"step", id: value}]}
nlohmann::ordered_json quality_json(const Quality& quality, const std::vector<std::int64_t>& steps);

}  // namespace cresco::dictionaries
