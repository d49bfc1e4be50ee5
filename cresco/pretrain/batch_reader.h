// The micro-batches that one rank computes, in order, the next one read by a thread while the last
// is computed.
#pragma once

#include "cresco/base/worker.h"
#include "cresco/pretrain/data.h"
#include "cresco/pretrain/recipe.h"

#include <ATen/core/Tensor.h>

namespace cresco::pretrain {

// How a step's windows are cut: rank r of R computes the r-th of R runs of neighbours, some at a
// time.
struct MicroBatches {
  std::int64_t sequences = 0;  // of a whole step
  std::int64_t own = 0;        // of this rank
  std::int64_t at_once = 0;
  std::int64_t count() const { return own / at_once; }
};
// UsageError when they do not divide each other.
MicroBatches micro_batches(const Recipe& recipe, int ranks);

class BatchReader {
 public:
  // Of `steps` steps, whose windows begin at `first_place`. Nothing past them is read.
  BatchReader(const RunData& data, const MicroBatches& cut, std::int64_t vocab_size, int rank,
              std::int64_t first_place, std::int64_t steps);

  at::Tensor next();  // ids, int64 (at_once, window_ids); Error as read_batch

 private:
  void begin_reading();

  const RunData& data_;
  std::int64_t vocab_size_, rank_, first_place_;
  MicroBatches cut_;
  std::int64_t next_ = 0, end_;  // micro-batches of this rank, counted from the first step
  at::Tensor read_;
  Worker thread_;
};

}  // namespace cresco::pretrain
