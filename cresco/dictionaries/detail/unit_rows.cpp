#include "cresco/dictionaries/detail/unit_rows.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::dictionaries {

UnitRows::UnitRows(const StoredDecoder& decoder, std::vector<std::int64_t> heads,
                   const MatchConfig& config)
    : decoder_(decoder), heads_(std::move(heads)) {
  const at::Tensor norm_FK = decoder.norm_FK().index_select(1, at::tensor(heads_, at::kLong));
  length_FK_ = config.similarity == "concatenated"
                   ? norm_FK.square().sum(1, /*keepdim=*/true).sqrt_().expand_as(norm_FK)
                   : norm_FK * std::sqrt(static_cast<double>(num_heads()));
  const at::Tensor largest_F = norm_FK.amax(1).contiguous();
  const double limit = config.dead_share * largest_F.max().item<double>();
  const double* largest = largest_F.const_data_ptr<double>();
  for (std::int64_t i = 0; i < size(); ++i) {
    zero_.push_back(largest[i] == 0);
    dead_.push_back(largest[i] <= limit);
    counted_.push_back(!(config.dead == "excluded" && dead_.back()));
  }
  require(num_counted() > 0, "{}: every one of its {} features is dead, none is left to match",
          decoder_.path().string(), size());
}

at::Tensor UnitRows::rows(std::int64_t begin, std::int64_t count) const {
  const at::Tensor rows_FKD = decoder_.rows_FKD(begin, count, heads_);
  for (std::int64_t k = 0; k < num_heads(); ++k) {
    const at::Tensor length_F1 = length_FK_.select(1, k).narrow(0, begin, count).unsqueeze(1);
    const at::Tensor scaled_FD = rows_FKD.select(1, k).to(at::kDouble).div_(length_F1);
    rows_FKD.select(1, k).copy_(scaled_FD.masked_fill_(length_F1.eq(0), 0));
  }
  return rows_FKD.view({count, num_heads() * width()});
}

at::Tensor UnitRows::tile(std::int64_t begin) const {
  const std::int64_t count = in_tile(begin);
  const at::Tensor own = rows(begin, count);
  if (count == kTile) return own;
  const at::Tensor tile = at::zeros({kTile, own.size(1)});
  tile.narrow(0, 0, count).copy_(own);
  return tile;
}

}  // namespace cresco::dictionaries
