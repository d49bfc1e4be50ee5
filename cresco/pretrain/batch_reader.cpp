#include "cresco/pretrain/batch_reader.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::pretrain {

MicroBatches micro_batches(const Recipe& recipe, int ranks) {
  MicroBatches cut{.sequences = recipe.batch.sequences};
  require_usage(cut.sequences % ranks == 0,
                "batch.sequences {} cannot be shared by {} ranks: their number has to divide it",
                cut.sequences, ranks);
  cut.own = cut.sequences / ranks;
  cut.at_once = std::min(recipe.micro_sequences(), cut.own);
  require_usage(cut.own % cut.at_once == 0,
                "batch.micro_sequences {} does not divide the {} sequences of each of {} ranks",
                cut.at_once, cut.own, ranks);
  return cut;
}

BatchReader::BatchReader(const RunData& data, const MicroBatches& cut, std::int64_t vocab_size,
                         int rank, std::int64_t first_place, std::int64_t steps)
    : data_(data),
      vocab_size_(vocab_size),
      rank_(rank),
      first_place_(first_place),
      cut_(cut),
      end_(steps * cut_.count()) {
  begin_reading();
}

void BatchReader::begin_reading() {
  if (next_ >= end_) return;
  const std::int64_t step = next_ / cut_.count(), part = next_ % cut_.count();
  const std::int64_t place =
      first_place_ + step * cut_.sequences + rank_ * cut_.own + part * cut_.at_once;
  ++next_;
  thread_.submit([this, place] { read_ = read_batch(data_, place, cut_.at_once, vocab_size_); });
}

at::Tensor BatchReader::next() {
  thread_.wait();
  TORCH_INTERNAL_ASSERT(read_.defined());
  at::Tensor ids = std::move(read_);
  read_ = at::Tensor();
  begin_reading();
  return ids;
}

}  // namespace cresco::pretrain
