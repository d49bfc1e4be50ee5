#include "cresco/models/rounded_readout.h"

#include "cresco/kernels/bf16_product.h"
#include "cresco/tensor/large_pages.h"
#include "cresco/tensor/share_tasks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace cresco::models {
namespace {

using kernels::Bf16Product;
using kernels::kPanelWidth;
static_assert(kernels::kPanelColumns == kPanelWidth);

// Depths are made a multiple of what a tile takes, so that none has a rest.
constexpr std::int64_t kDepthStep = 32;
std::int64_t whole_steps(std::int64_t depth) {
  return (depth + kDepthStep - 1) / kDepthStep * kDepthStep;
}

at::Tensor room(at::Tensor& buffer, at::IntArrayRef sizes, at::ScalarType dtype) {
  return tensor::room(buffer, sizes, dtype, at::kCPU);
}
std::uint16_t* bits(const at::Tensor& bf16) { return static_cast<std::uint16_t*>(bf16.data_ptr()); }
std::uint32_t* pairs(const at::Tensor& packed) {
  return reinterpret_cast<std::uint32_t*>(packed.data_ptr<std::int32_t>());
}

// The rows of `numbers`, bfloat16 (N, K), as panels of a b.
void pack(const at::Tensor& numbers, at::Tensor& buffer) {
  Bf16Product product{.columns = numbers.size(0), .depth = numbers.size(1), .b = bits(numbers)};
  product.packed = pairs(room(buffer, {product.packed_size()}, at::kInt));
  tensor::share_tasks(product.panels(),
                      [&](std::int64_t panel) { kernels::pack_bf16(product, panel); });
}

// `from` rounded into the first columns of a matrix with zeros beside them.
at::Tensor rounded(at::Tensor& buffer, const at::Tensor& from) {
  const std::int64_t rows = from.size(0), columns = from.size(1), depth = whole_steps(columns);
  const at::Tensor to = room(buffer, {rows, depth}, at::kBFloat16);
  to.narrow(1, 0, columns).copy_(from);
  if (depth > columns) to.narrow(1, columns, depth - columns).zero_();
  return to;
}

}  // namespace

void RoundedReadout::set_weights(const at::Tensor& weight_VD, std::int64_t block_columns,
                                 bool with_gradients) {
  V_ = weight_VD.size(0);
  D_ = weight_VD.size(1);
  C_ = block_columns;
  const at::Tensor weight = rounded(weight_, weight_VD);
  if (!with_gradients) return;
  const std::int64_t blocks = (V_ + C_ - 1) / C_, K = whole_steps(C_), stride = weight.size(1);
  const std::uint16_t* const from = bits(weight);
  std::uint16_t* const to = bits(room(weight_columns_, {blocks, D_, K}, at::kBFloat16));
  tensor::share_tasks(blocks, [&](std::int64_t n) {
    const std::int64_t columns = std::min(C_, V_ - n * C_);
    for (std::int64_t begin = 0; begin < K; begin += kDepthStep)  // a line of each row at a time
      for (std::int64_t d = 0; d < D_; ++d)
        for (std::int64_t c = begin; c < begin + kDepthStep; ++c)
          to[(n * D_ + d) * K + c] = c < columns ? from[(n * C_ + c) * stride + d] : 0;
  });
}

void RoundedReadout::set_rows(const at::Tensor& hidden, std::int64_t D) {
  R_ = hidden.size(0);
  const at::Tensor hidden_RD = hidden.narrow(1, 0, D);
  pack(rounded(hidden_, hidden_RD), packed_hidden_);
  pack(rounded(hidden_columns_, hidden_RD.t()), packed_hidden_columns_);
  const std::int64_t threads = at::get_num_threads(), K = whole_steps(C_);
  room(gradient_, {threads, C_, R_}, at::kBFloat16);
  room(packed_gradient_, {threads, R_ / kPanelWidth, K / 2, kPanelWidth}, at::kInt);
}

void RoundedReadout::make_logits(std::int64_t n, const kernels::SoftmaxBlock& block) const {
  const std::int64_t depth = whole_steps(D_);
  for (std::int64_t p = 0; p < block.panels; ++p)
    kernels::bf16_product({.rows = block.columns,
                           .columns = kPanelWidth,
                           .depth = depth,
                           .a = bits(weight_) + n * C_ * depth,
                           .packed = pairs(packed_hidden_) + p * depth / 2 * kPanelWidth,
                           .out = block.x + p * block.columns * kPanelWidth,
                           .out_stride = kPanelWidth},
                          0, block.columns);
}

void RoundedReadout::use_gradient(std::int64_t n, const kernels::SoftmaxBlock& block,
                                  float* hidden_PD64, bool adds, float* weight_gradient_VD) const {
  const std::int64_t K = whole_steps(C_), thread = at::get_thread_num(), P = block.panels;
  std::uint16_t* const gradient_CR = bits(gradient_) + thread * C_ * R_;
  std::uint32_t* const packed = pairs(packed_gradient_) + thread * P * K / 2 * kPanelWidth;
  for (std::int64_t p = 0; p < P; ++p) {
    std::uint32_t* const own = packed + p * K / 2 * kPanelWidth;
    kernels::round_to_bf16({.rows_count = block.columns,
                            .depth = K,
                            .from = block.x + p * block.columns * kPanelWidth,
                            .rows = gradient_CR + p * kPanelWidth,
                            .row_stride = R_,
                            .packed = own});
    if (hidden_PD64)
      kernels::bf16_product({.rows = D_,
                             .columns = kPanelWidth,
                             .depth = K,
                             .a = bits(weight_columns_) + n * D_ * K,
                             .packed = own,
                             .out = hidden_PD64 + p * D_ * kPanelWidth,
                             .out_stride = kPanelWidth,
                             .adds = adds},
                            0, D_);
  }
  if (weight_gradient_VD)
    kernels::bf16_product({.rows = block.columns,
                           .columns = D_,
                           .depth = R_,
                           .a = gradient_CR,
                           .packed = pairs(packed_hidden_columns_),
                           .out = weight_gradient_VD + n * C_ * D_,
                           .out_stride = D_,
                           .adds = true},
                          0, block.columns);
}

}  // namespace cresco::models
