#include "cresco/dictionaries/reconstruction.h"

#include "cresco/dictionaries/quality.h"

#include <ATen/ATen.h>

namespace cresco::dictionaries {
namespace {

// Numbers from which the codes of every head follow: the codes themselves where heads share them,
// else the pre-activations that the head with the longest decoder row lets pass.
at::Tensor kept(const Crosscoder& crosscoder, const at::Tensor& p_BF, const at::Tensor& norm_F) {
  if (crosscoder.shares_codes()) return crosscoder.codes(p_BF, 0);
  return p_BF.masked_fill((p_BF * norm_F).le(crosscoder.threshold_F()), 0);
}

}  // namespace

Reconstruction::Reconstruction(const Crosscoder& crosscoder, const StackRows& stack_rows)
    : crosscoder_(&crosscoder), rows_(&stack_rows) {
  const Rows rows = stack_rows.rows();
  const std::int64_t block = crosscoder.whole_slices(
      std::min(rows.num_rows,
               rows_of_block(stack_rows.block_bytes(), quality_row_bytes(crosscoder, false))));
  const at::Tensor norm_F = crosscoder.norm_KF().amax(0);
  rows.for_blocks(block, [&](std::int64_t first, std::int64_t count) {
    const at::Tensor a_BF =
        kept(crosscoder, crosscoder.pre_activation(rows.read(first, count)), norm_F);
    const at::Tensor places_N2 = a_BF.nonzero();
    blocks_.push_back({count, places_N2.select(1, 0).to(at::kInt),
                       places_N2.select(1, 1).to(at::kInt), a_BF.masked_select(a_BF.ne(0))});
  });
}

at::Tensor Reconstruction::matrix(std::int64_t k) const {
  const std::int64_t F = crosscoder_->parameters().num_features();
  at::Tensor out_VD = at::empty({rows_->num_rows(), rows_->width()}, at::kFloat);
  std::int64_t first = 0;
  for (const Block& block : blocks_) {
    at::Tensor a_BF = at::zeros({block.num_rows, F}, block.value_N.options());
    a_BF.index_put_({block.row_N.to(at::kLong), block.feature_N.to(at::kLong)}, block.value_N);
    if (!crosscoder_->shares_codes()) a_BF = crosscoder_->codes(a_BF, k);
    out_VD.narrow(0, first, block.num_rows)
        .copy_(restore(crosscoder_->decode(a_BF, k), rows_->statistics(k)));
    first += block.num_rows;
  }
  return out_VD;
}

std::int64_t Reconstruction::num_bytes() const {
  std::int64_t sum = 0;
  for (const Block& block : blocks_) sum += 12 * block.value_N.numel();
  return sum;
}

}  // namespace cresco::dictionaries
