#include "cresco/dictionaries/detail/unit_rows.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::dictionaries {
namespace {

// (features, heads) in double, a head at a time.
at::Tensor norms(const at::Tensor& rows_FKD) {
  std::vector<at::Tensor> norms;
  for (std::int64_t k = 0; k < rows_FKD.size(1); ++k)
    norms.push_back(rows_FKD.select(1, k).to(at::kDouble).square_().sum(1).sqrt_());
  return at::stack(norms, 1);
}

}  // namespace

UnitRows::UnitRows(const StoredDecoder& decoder, std::vector<std::int64_t> heads, bool concatenated,
                   double dead_share, bool exclude, Progress& progress)
    : decoder_(decoder), heads_(std::move(heads)), concatenated_(concatenated) {
  std::vector<double> largest;  // norm of any head, by feature
  progress.begin("norms", size(), "feature");
  for (std::int64_t begin = 0; begin < size(); begin += kTile) {
    const at::Tensor norm_FK = norms(decoder_.rows_FKD(begin, in_tile(begin), heads_));
    const at::Tensor largest_F = norm_FK.amax(1);
    const double* values = largest_F.const_data_ptr<double>();
    largest.insert(largest.end(), values, values + largest_F.numel());
    progress.update(begin + in_tile(begin), decoder_.path().filename().string());
  }
  progress.end();
  const double limit = dead_share * *std::max_element(largest.begin(), largest.end());
  for (const double norm : largest) {
    zero_.push_back(norm == 0);
    dead_.push_back(norm <= limit);
    counted_.push_back(!(exclude && dead_.back()));
  }
  require(num_counted() > 0, "{}: every one of its {} features is dead, none is left to match",
          decoder_.path().string(), size());
}

at::Tensor UnitRows::rows(std::int64_t begin, std::int64_t count) const {
  const at::Tensor rows_FKD = decoder_.rows_FKD(begin, count, heads_);
  const at::Tensor norm_FK = norms(rows_FKD);
  const at::Tensor length_FK =
      concatenated_ ? norm_FK.square().sum(1, /*keepdim=*/true).sqrt_().expand_as(norm_FK)
                    : norm_FK * std::sqrt(static_cast<double>(num_heads()));
  for (std::int64_t k = 0; k < num_heads(); ++k) {
    const at::Tensor length_F1 = length_FK.select(1, k).unsqueeze(1);
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
