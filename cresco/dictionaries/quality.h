// How well a dictionary reconstructs, over all rows, with sums in double. The formula of every id
// stands in docs/metrics.md.
#pragma once

#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/rows.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>
#include <vector>

namespace cresco::dictionaries {

struct MetricValue {
  const char* id;
  double value;
};

struct SnapshotQuality {
  double explained_variance =
      0;  // about the column means; NaN for a snapshot whose rows are all alike
  double l0 = 0;
  double dead_rate = 0;             // id dead_rate_1e-4
  std::vector<MetricValue> others;  // of all definitions, when they were asked for
};

struct Quality {
  double explained_variance_pooled = 0;  // about one mean of all numbers; 0 when they are all alike
  double reconstruction_mse = 0, l0 = 0;
  double dead_rate = 0;             // id dead_rate_1e-6
  std::vector<MetricValue> others;  // of all definitions, when they were asked for
  std::int64_t num_rows = 0;
  std::vector<SnapshotQuality> snapshots;
  at::Tensor rates_KF;  // double: share of rows on which the gate is open
};

struct QualityOptions {
  // Also the definitions that other programs use. Costs a second decode of JumpReLU and BatchTopK
  // dictionaries, for the one definition with a gate of its own, and a second encode of BatchTopK.
  bool all_definitions = false;
  std::int64_t batch_rows = 0;  // of the definitions that average over batches; 0: all rows
  std::int64_t block_bytes = kBlockBytes;
  std::function<void(std::int64_t rows)> done;  // called after each block; may throw
};

// Reads every row once, in blocks that need about `block_bytes` of memory: the pre-activation by
// one product, then head by head. The results do not depend on the blocks but for the rounding of
// float32 products (some 1e-7 of a number) and the last bits of a double.
Quality measure_quality(const Crosscoder& crosscoder, const Rows& rows,
                        const QualityOptions& options = {});
// x_VKD is preprocessed.
Quality measure_quality(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                        std::int64_t block_bytes = kBlockBytes);

// Bytes that a row takes in measure_quality.
std::int64_t quality_row_bytes(const Crosscoder& crosscoder, bool all_definitions);

// {"pooled": {id: value}, "snapshots": [{"step", id: value}]}
nlohmann::ordered_json quality_json(const Quality& quality, const std::vector<std::int64_t>& steps);

// One line that says what is measured and who uses it. Error for an id that quality_json never has.
std::string definition_of(const std::string& id, bool pooled);

}  // namespace cresco::dictionaries
