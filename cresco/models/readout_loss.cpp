#include "cresco/models/readout_loss.h"

#include "cresco/base/require.h"
#include "cresco/kernels/bf16_product.h"
#include "cresco/kernels/softmax_loss.h"
#include "cresco/tensor/large_pages.h"
#include "cresco/tensor/place.h"
#include "cresco/tensor/share_tasks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>

namespace cresco::models {
namespace {

using kernels::kPanelWidth;
using kernels::num_column_panels;

// What a chunk costs on a CPU. Its 6 R V D operations come with, in bytes, the weights read twice
// and their gradient read and written, 16 V D, and the logits written, read, and written once more,
// 12 R V: 16/(6 R) + 12/(6 D) bytes an operation. With 256 rows and D = 128 that is 0.026: a core
// that does 1.7e11 operations a second asks for 4.4 GB/s. More rows take more memory and save
// little.
constexpr std::int64_t kChunkRows = 256;
// A block of logits, its weights and their gradient stay in a core's second-level cache, with as
// much of the next block, which is asked for meanwhile.
constexpr std::int64_t kBlockBytes = 384 << 10;
// Blocks come in groups with a sum of hidden gradients each; the sums are added in order, so that
// nothing depends on which thread did what.
constexpr std::int64_t kGroups = 16;
// With AMX the products take a fifth of the time, and what is read and written for each chunk
// counts for more.
constexpr std::int64_t kRoundedChunkRows = 512, kRoundedBlockColumns = 256;
// Logits that a GPU holds at a time.
constexpr std::int64_t kRowsNumbers = std::int64_t{1} << 27;

std::int64_t block_columns(std::int64_t V, std::int64_t D) {
  constexpr std::int64_t kStep = 48;  // whole steps of rows for the products' kernels
  const std::int64_t fits = kBlockBytes / 4 / (kChunkRows + 2 * D) / kStep * kStep;
  return std::min(std::clamp<std::int64_t>(fits, kStep, 20 * kStep), V);
}

}  // namespace

struct ReadoutLoss::Call {
  at::Tensor hidden_ND, weight_VD, targets_N;
  double scale = 1;
  at::Tensor hidden_gradient_ND, weight_gradient_VD;  // undefined: not wanted

  std::int64_t N() const { return hidden_ND.size(0); }
  std::int64_t D() const { return hidden_ND.size(1); }
  std::int64_t V() const { return weight_VD.size(0); }
  bool wants_gradients() const {
    return hidden_gradient_ND.defined() || weight_gradient_VD.defined();
  }

  void check() const {
    TORCH_INTERNAL_ASSERT(hidden_ND.dim() == 2 && weight_VD.dim() == 2 &&
                          weight_VD.size(1) == D() && targets_N.dim() == 1 &&
                          targets_N.size(0) == N() && targets_N.scalar_type() == at::kLong &&
                          targets_N.is_contiguous() && weight_VD.is_contiguous());
    if (hidden_gradient_ND.defined())
      TORCH_INTERNAL_ASSERT(hidden_gradient_ND.sizes() == hidden_ND.sizes() &&
                            hidden_gradient_ND.scalar_type() == hidden_ND.scalar_type());
    if (weight_gradient_VD.defined())
      TORCH_INTERNAL_ASSERT(
          weight_gradient_VD.sizes() == weight_VD.sizes() &&
          weight_gradient_VD.scalar_type() ==
              (weight_VD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
    if (!targets_N.is_cpu()) return;
    const std::int64_t* const targets = targets_N.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < N(); ++i)
      require(targets[i] >= kernels::kIgnoredTarget && targets[i] < V(),
              "target {} is id {}, the vocabulary has {}", i, targets[i], V());
  }
};

ReadoutLoss::ReadoutLoss(bool rounds) : rounds_(rounds && kernels::has_amx()) {}

double ReadoutLoss::add(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
                        const at::Tensor& targets_N, double scale,
                        const at::Tensor& hidden_gradient_ND,
                        const at::Tensor& weight_gradient_VD) {
  const torch::autograd::AutoGradMode no_grad(false);
  const Call call{hidden_ND.detach(), weight_VD.detach(), targets_N, scale,
                  hidden_gradient_ND, weight_gradient_VD};
  call.check();
  const c10::DeviceGuard guard(hidden_ND.device());
  return hidden_ND.is_cpu() && hidden_ND.scalar_type() != at::kDouble ? by_blocks(call)
                                                                      : by_rows(call);
}

double ReadoutLoss::loss(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
                         const at::Tensor& targets_N) {
  return add(hidden_ND, weight_VD, targets_N, 1, {}, {});
}

// Letters beside the kernels': P panels of 64 tokens (R = 64 P), Q panels of 64 dimensions, C
// columns of a block. The products, with every operand where it is:
//   logits (P,C,64)           = weights (C,D)          . hidden states' panels (P,D,64)
//   hidden gradient (P,D,64) += weights^T (D,C)        . logits' gradient (P,C,64)
//   weight gradient (C,D)    += logits' gradient^T (R) . hidden states' columns (Q,R,64)
double ReadoutLoss::by_blocks(const Call& call) {
  const std::int64_t N = call.N(), D = call.D(), V = call.V();
  const std::int64_t C = rounds_ ? std::min(kRoundedBlockColumns, V) : block_columns(V, D),
                     blocks = (V + C - 1) / C;
  const std::int64_t chunk_rows = rounds_ ? kRoundedChunkRows : kChunkRows;
  const std::int64_t most_rows = num_column_panels(std::min(N, chunk_rows)) * kPanelWidth,
                     Q = num_column_panels(D);
  const std::int64_t groups = std::min(kGroups, blocks), threads = at::get_num_threads();
  const bool gradients = call.wants_gradients();
  const auto floats = [&](at::Tensor& buffer, at::IntArrayRef sizes) {
    return tensor::room(buffer, sizes, at::kFloat, at::kCPU).mutable_data_ptr<float>();
  };
  // Where losses are all that is wanted, a block's logits are dropped at once.
  float* const logits = floats(logits_, {gradients ? blocks : threads, most_rows * C});
  // Of each block: largest, sum and factor of each row; then the logits of the targets.
  float* const sums = floats(block_sums_, {3 * blocks + 1, most_rows});
  const auto sums_of = [&](std::int64_t part, std::int64_t n) {
    return sums + (part * blocks + n) * most_rows;
  };
  float* const hidden_sums_GPD64 = floats(hidden_sums_, {groups, most_rows, D});
  const at::Tensor targets_R = tensor::room(targets_, {most_rows}, at::kLong, at::kCPU),
                   loss_R = tensor::room(loss_, {most_rows}, at::kDouble, at::kCPU);
  const bool converts = !rounds_ && call.weight_VD.scalar_type() != at::kFloat;
  float* const converted = converts ? floats(weight_block_, {threads, C * D}) : nullptr;
  float* const weight_gradient_VD = call.weight_gradient_VD.defined()
                                        ? call.weight_gradient_VD.mutable_data_ptr<float>()
                                        : nullptr;

  const auto columns_of = [&](std::int64_t n) { return std::min(C, V - n * C); };
  // (C, D), as floats.
  const auto weight_of = [&](std::int64_t n) -> const float* {
    if (!converts) return call.weight_VD.const_data_ptr<float>() + n * C * D;
    const torch::autograd::AutoGradMode no_grad(false);  // every thread has its own setting
    float* const own = converted + at::get_thread_num() * C * D;
    at::from_blob(own, {columns_of(n), D}).copy_(call.weight_VD.narrow(0, n * C, columns_of(n)));
    return own;
  };
  // The share of call i of `count` in what the next block of a group needs.
  const auto ask_for = [](kernels::PanelProduct& product, const float* numbers, std::int64_t size,
                          std::int64_t i, std::int64_t count) {
    product.next = numbers + i * size / count;
    product.next_bytes = ((i + 1) * size / count - i * size / count) * std::int64_t{sizeof(float)};
  };
  const auto over_groups = [&](const auto& task) {
    tensor::share_tasks(groups, [&](std::int64_t group) {
      const std::int64_t begin = group * blocks / groups, end = (group + 1) * blocks / groups;
      for (std::int64_t n = begin; n < end; ++n) task(group, n, n == begin, n + 1 == end);
    });
  };

  if (rounds_) rounded_.set_weights(call.weight_VD, C, gradients);
  double loss = 0;
  for (std::int64_t first = 0; first < N; first += chunk_rows) {
    const std::int64_t rows = std::min(chunk_rows, N - first), P = num_column_panels(rows),
                       R = P * kPanelWidth;
    const at::Tensor hidden =
        tensor::room(hidden_, {R, Q * kPanelWidth}, at::kFloat, at::kCPU).zero_();
    hidden.narrow(0, 0, rows).narrow(1, 0, D).copy_(call.hidden_ND.narrow(0, first, rows));
    float *panels_PD64 = nullptr, *columns_QR64 = nullptr;
    if (rounds_) {
      rounded_.set_rows(hidden, D);
    } else {
      panels_PD64 = floats(hidden_panels_, {P, D, kPanelWidth});
      at::from_blob(panels_PD64, {P, D, kPanelWidth})
          .copy_(hidden.view({P, kPanelWidth, -1}).narrow(2, 0, D).transpose(1, 2));
      columns_QR64 = floats(hidden_columns_, {Q, R, kPanelWidth});
      at::from_blob(columns_QR64, {Q, R, kPanelWidth})
          .copy_(hidden.view({R, Q, kPanelWidth}).transpose(0, 1));
    }
    targets_R.fill_(kernels::kIgnoredTarget);
    targets_R.narrow(0, 0, rows).copy_(call.targets_N.narrow(0, first, rows));
    const auto block_of = [&](std::int64_t n) {
      return kernels::SoftmaxBlock{
          .panels = P,
          .columns = columns_of(n),
          .first = n * C,
          .x = logits + (gradients ? n : at::get_thread_num()) * most_rows * C,
          .target_R = targets_R.const_data_ptr<std::int64_t>(),
          .target_logit_R = sums_of(3, 0),
          .largest_R = sums_of(0, n),
          .sum_R = sums_of(1, n),
          .factor_R = sums_of(2, n)};
    };

    over_groups([&](std::int64_t, std::int64_t n, bool, bool is_last) {
      const kernels::SoftmaxBlock block = block_of(n);
      if (rounds_) {
        rounded_.make_logits(n, block);
        return kernels::softmax_block(block);
      }
      const float* const weight_CD = weight_of(n);
      for (std::int64_t p = 0; p < P; ++p) {
        kernels::PanelProduct product{.rows = block.columns,
                                      .depth = D,
                                      .a = weight_CD,
                                      .a_row = D,
                                      .a_depth = 1,
                                      .panel = panels_PD64 + p * D * kPanelWidth,
                                      .out = block.x + p * block.columns * kPanelWidth,
                                      .out_row = kPanelWidth};
        if (!is_last && !converts) ask_for(product, weight_of(n + 1), columns_of(n + 1) * D, p, P);
        kernels::panel_product(product);
      }
      kernels::softmax_block(block);
    });
    const kernels::SoftmaxMerge merge{.rows = most_rows,
                                      .blocks = blocks,
                                      .target_R = targets_R.const_data_ptr<std::int64_t>(),
                                      .target_logit_R = sums_of(3, 0),
                                      .largest_NR = sums_of(0, 0),
                                      .sum_NR = sums_of(1, 0),
                                      .weight = call.scale,
                                      .factor_NR = gradients ? sums_of(2, 0) : nullptr,
                                      .loss_R = loss_R.mutable_data_ptr<double>()};
    at::parallel_for(0, R, 16, [&](std::int64_t begin, std::int64_t end) {
      kernels::softmax_merge(merge, begin, end);
    });
    for (std::int64_t i = 0; i < rows; ++i) loss += merge.loss_R[i];
    if (!gradients) continue;

    over_groups([&](std::int64_t group, std::int64_t n, bool is_first, bool is_last) {
      const kernels::SoftmaxBlock block = block_of(n);
      kernels::softmax_gradient(block, static_cast<float>(call.scale));
      if (rounds_)
        return rounded_.use_gradient(
            n, block,
            call.hidden_gradient_ND.defined() ? hidden_sums_GPD64 + group * most_rows * D : nullptr,
            !is_first, weight_gradient_VD);
      const float* const weight_CD = weight_of(n);
      for (std::int64_t p = 0; p < P; ++p) {
        const float* const gradient_C64 = block.x + p * block.columns * kPanelWidth;
        if (call.hidden_gradient_ND.defined()) {
          kernels::PanelProduct product{
              .rows = D,
              .depth = block.columns,
              .a = weight_CD,
              .a_row = 1,
              .a_depth = D,
              .panel = gradient_C64,
              .out = hidden_sums_GPD64 + group * most_rows * D + p * D * kPanelWidth,
              .out_row = kPanelWidth,
              .adds = !is_first};
          if (!is_last) ask_for(product, block_of(n + 1).x, columns_of(n + 1) * R, p, P);
          kernels::panel_product(product);
        }
        for (std::int64_t q = 0; weight_gradient_VD && q < Q; ++q) {
          kernels::PanelProduct product{
              .rows = block.columns,
              .depth = kPanelWidth,
              .columns = std::min(kPanelWidth, D - q * kPanelWidth),
              .a = gradient_C64,
              .a_row = kPanelWidth,
              .a_depth = 1,
              .panel = columns_QR64 + (q * R + p * kPanelWidth) * kPanelWidth,
              .out = weight_gradient_VD + block.first * D + q * kPanelWidth,
              .out_row = D,
              .adds = true};
          // Half of these calls ask for weights, half for their gradient.
          const std::int64_t i = p * Q + q, half = (P * Q + 1) / 2;
          if (!is_last && i >= half)
            ask_for(product, weight_gradient_VD + (n + 1) * C * D, columns_of(n + 1) * D, i - half,
                    P * Q - half);
          else if (!is_last && !converts)
            ask_for(product, weight_of(n + 1), columns_of(n + 1) * D, i, half);
          kernels::panel_product(product);
        }
      }
    });
    if (call.hidden_gradient_ND.defined()) {
      const auto sum_of = [&](std::int64_t group) {
        return at::from_blob(hidden_sums_GPD64 + group * most_rows * D, {P, D, kPanelWidth});
      };
      at::Tensor sum_PD64 = sum_of(0);
      for (std::int64_t group = 1; group < groups; ++group) sum_PD64 += sum_of(group);
      call.hidden_gradient_ND.narrow(0, first, rows)
          .copy_(sum_PD64.transpose(1, 2).reshape({R, D}).narrow(0, 0, rows));
    }
  }
  return loss;
}

double ReadoutLoss::by_rows(const Call& call) {
  const std::int64_t N = call.N(), D = call.D(), V = call.V();
  const at::Device device = call.hidden_ND.device();
  const at::ScalarType type = call.hidden_ND.scalar_type();
  const bool is_small = type == at::kBFloat16 || type == at::kHalf;
  const at::ScalarType wide = is_small ? at::kFloat : type;
  const std::int64_t most_rows = std::clamp<std::int64_t>(kRowsNumbers / V, 1, N);
  const at::Tensor logits = tensor::room(logits_, {most_rows, V}, wide, device);
  const at::Tensor gradients = is_small && call.wants_gradients()
                                   ? tensor::room(gradient_, {most_rows, V}, type, device)
                                   : logits;
  const at::Tensor loss_N = tensor::room(loss_, {N}, at::kDouble, device);
  at::Tensor weight_VD = call.weight_VD;
  if (weight_VD.scalar_type() != type) {
    weight_VD = tensor::room(weight_block_, {V, D}, type, device);
    weight_VD.copy_(call.weight_VD);
  }
  const kernels::Place place = tensor::place_of(device);

  for (std::int64_t first = 0; first < N; first += most_rows) {
    const std::int64_t rows = std::min(most_rows, N - first);
    const at::Tensor hidden = call.hidden_ND.narrow(0, first, rows).contiguous();
    at::Tensor x = logits.narrow(0, 0, rows), gradient = gradients.narrow(0, 0, rows);
    if (is_small)
      at::mm_out(x, hidden, weight_VD.t(), at::kFloat);
    else
      at::mm_out(x, hidden, weight_VD.t());
    const auto softmax = [&]<class Number, class Gradient>(Number, Gradient) {
      kernels::softmax_rows(
          place, kernels::SoftmaxRows<Number, Gradient>{
                     .rows = rows,
                     .columns = V,
                     .stride = V,
                     .x_RV = x.mutable_data_ptr<Number>(),
                     .target_R = call.targets_N.const_data_ptr<std::int64_t>() + first,
                     .weight = call.scale,
                     .gradient_RV = call.wants_gradients()
                                        ? static_cast<Gradient*>(gradient.mutable_data_ptr())
                                        : nullptr,
                     .loss_R = loss_N.mutable_data_ptr<double>() + first});
    };
    if (type == at::kDouble)
      softmax(0.0, 0.0);
    else if (type == at::kFloat)
      softmax(0.0f, 0.0f);
    else if (type == at::kBFloat16)
      softmax(0.0f, kernels::Bf16{});
    else
      softmax(0.0f, kernels::Fp16{});
    if (call.hidden_gradient_ND.defined()) {
      at::Tensor out = call.hidden_gradient_ND.narrow(0, first, rows);
      at::mm_out(out, gradient, weight_VD);
    }
    if (call.weight_gradient_VD.defined()) {
      at::Tensor out = call.weight_gradient_VD;
      if (is_small)
        at::addmm_out(out, out, gradient.t(), hidden, at::kFloat);
      else
        out.addmm_(gradient.t(), hidden);
    }
  }
  return loss_N.sum().item<double>();
}

}  // namespace cresco::models
