#include "cresco/models/readout_loss.h"

#include "cresco/base/require.h"
#include "cresco/kernels/softmax_loss.h"
#include "cresco/tensor/large_pages.h"
#include "cresco/tensor/one_thread.h"
#include "cresco/tensor/place.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <atomic>

namespace cresco::models {
namespace {

// What a chunk costs on a CPU. Its 6 R V D operations come with, in bytes, the weights read twice
// and their gradient read and written, 16 V D, and the logits written, read, and written once more,
// 12 R V: 16/(6 R) + 12/(6 D) bytes an operation. With 256 rows and D = 128 that is 0.026: a core
// that does 1e11 operations a second asks for 2.6 GB/s. More rows take more memory and save little.
constexpr std::int64_t kChunkRows = 256;
// A block of logits, its weights and their gradient stay in a core's second-level cache.
constexpr std::int64_t kBlockBytes = 1536 << 10;
// Blocks come in groups with a sum of hidden gradients each; the sums are added in order, so that
// nothing depends on which thread did what.
constexpr std::int64_t kGroups = 16;
// Logits that a GPU holds at a time.
constexpr std::int64_t kRowsNumbers = std::int64_t{1} << 27;

std::int64_t block_columns(std::int64_t V, std::int64_t D) {
  const std::int64_t fits = kBlockBytes / 4 / (kChunkRows + 2 * D) / 64 * 64;
  return std::min(std::clamp<std::int64_t>(fits, 64, 1024), V);
}

// Tasks go to whichever thread is free. Inside, LibTorch's products run on the thread that calls
// them.
template <class Task>
void share_tasks(std::int64_t count, const Task& task) {
  std::atomic<std::int64_t> next{0};
  at::parallel_for(0, std::min<std::int64_t>(at::get_num_threads(), count), 1,
                   [&](std::int64_t, std::int64_t) {
                     const torch::autograd::AutoGradMode no_grad(false);
                     const tensor::OneThreadProducts one_thread;
                     for (std::int64_t i; (i = next++) < count;) task(i);
                   });
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

at::Tensor ReadoutLoss::room(at::Tensor& buffer, at::IntArrayRef sizes, at::ScalarType dtype,
                             at::Device device) {
  const std::int64_t count = c10::multiply_integers(sizes);
  if (!buffer.defined() || buffer.numel() < count || buffer.scalar_type() != dtype ||
      buffer.device() != device)
    buffer = device.is_cpu() ? tensor::large_zeros({count}, dtype)
                             : at::empty({count}, at::TensorOptions(device).dtype(dtype));
  return buffer.narrow(0, 0, count).view(sizes);
}

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

double ReadoutLoss::by_blocks(const Call& call) {
  const std::int64_t N = call.N(), D = call.D(), V = call.V();
  const std::int64_t columns = block_columns(V, D), blocks = (V + columns - 1) / columns;
  const std::int64_t most_rows = std::min(N, kChunkRows), groups = std::min(kGroups, blocks);
  const bool gradients = call.wants_gradients();
  const std::int64_t threads = at::get_num_threads();
  const auto floats = [&](at::Tensor& buffer, at::IntArrayRef sizes) {
    return room(buffer, sizes, at::kFloat, at::kCPU);
  };
  // Where losses are all that is wanted, a block's logits are dropped at once.
  const at::Tensor logits = floats(logits_, {gradients ? blocks : threads, most_rows * columns});
  // Of each block: largest, sum and factor of each row; then the logits of the targets.
  const at::Tensor sums = floats(block_sums_, {3 * blocks + 1, most_rows});
  const at::Tensor hidden_sums = floats(hidden_sums_, {groups, most_rows, D});
  const at::Tensor loss_N = room(loss_, {N}, at::kDouble, at::kCPU);
  const bool converts = call.weight_VD.scalar_type() != at::kFloat;
  if (converts) floats(weight_block_, {threads, columns, D});

  // Weights of a block, as floats.
  const auto weight_of = [&](std::int64_t n) {
    const std::int64_t first = n * columns, count = std::min(columns, V - first);
    const at::Tensor stored = call.weight_VD.narrow(0, first, count);
    if (!converts) return stored;
    const at::Tensor own =
        weight_block_.narrow(0, at::get_thread_num() * columns * D, count * D).view({count, D});
    own.copy_(stored);
    return own;
  };

  for (std::int64_t first = 0; first < N; first += kChunkRows) {
    const std::int64_t rows = std::min(kChunkRows, N - first);
    const at::Tensor hidden = call.hidden_ND.narrow(0, first, rows).to(at::kFloat).contiguous();
    const auto logits_of = [&](std::int64_t n) {
      const std::int64_t count = std::min(columns, V - n * columns);
      return logits[gradients ? n : at::get_thread_num()]
          .narrow(0, 0, rows * count)
          .view({rows, count});
    };
    float* const sum_data = sums.mutable_data_ptr<float>();
    const auto sums_of = [&](std::int64_t part, std::int64_t n) {
      return sum_data + (part * blocks + n) * rows;
    };
    const std::int64_t* const targets = call.targets_N.const_data_ptr<std::int64_t>() + first;
    const auto block_of = [&](std::int64_t n, const at::Tensor& x) {
      return kernels::SoftmaxBlock{.rows = rows,
                                   .columns = x.size(1),
                                   .stride = x.size(1),
                                   .first = n * columns,
                                   .x = x.mutable_data_ptr<float>(),
                                   .target_R = targets,
                                   .target_logit_R = sums_of(3, 0),
                                   .largest_R = sums_of(0, n),
                                   .sum_R = sums_of(1, n),
                                   .factor_R = sums_of(2, n)};
    };

    share_tasks(blocks, [&](std::int64_t n) {
      at::Tensor x = logits_of(n);
      at::mm_out(x, hidden, weight_of(n).t());
      kernels::softmax_block(block_of(n, x));
    });
    const kernels::SoftmaxMerge merge{.rows = rows,
                                      .blocks = blocks,
                                      .target_R = targets,
                                      .target_logit_R = sums_of(3, 0),
                                      .largest_NR = sums_of(0, 0),
                                      .sum_NR = sums_of(1, 0),
                                      .weight = call.scale,
                                      .factor_NR = gradients ? sums_of(2, 0) : nullptr,
                                      .loss_R = loss_N.mutable_data_ptr<double>() + first};
    at::parallel_for(0, rows, 16, [&](std::int64_t begin, std::int64_t end) {
      kernels::softmax_merge(merge, begin, end);
    });
    if (!gradients) continue;

    const auto hidden_sum = [&](std::int64_t group) {
      return hidden_sums[group].narrow(0, 0, rows);
    };
    share_tasks(groups, [&](std::int64_t group) {
      const std::int64_t begin = group * blocks / groups, end = (group + 1) * blocks / groups;
      for (std::int64_t n = begin; n < end; ++n) {
        const at::Tensor gradient = logits_of(n), weight = weight_of(n);
        kernels::softmax_gradient(block_of(n, gradient), static_cast<float>(call.scale));
        at::Tensor sum = hidden_sum(group);
        if (call.hidden_gradient_ND.defined()) {
          if (n == begin)
            at::mm_out(sum, gradient, weight);
          else
            sum.addmm_(gradient, weight);
        }
        if (call.weight_gradient_VD.defined())
          call.weight_gradient_VD.narrow(0, n * columns, gradient.size(1))
              .addmm_(gradient.t(), hidden);
      }
    });
    if (call.hidden_gradient_ND.defined()) {
      at::Tensor sum = hidden_sum(0);
      for (std::int64_t group = 1; group < groups; ++group) sum += hidden_sum(group);
      call.hidden_gradient_ND.narrow(0, first, rows).copy_(sum);
    }
  }
  double sum = 0;
  for (std::int64_t i = 0; i < N; ++i) sum += loss_N.const_data_ptr<double>()[i];
  return sum;
}

double ReadoutLoss::by_rows(const Call& call) {
  const std::int64_t N = call.N(), D = call.D(), V = call.V();
  const at::Device device = call.hidden_ND.device();
  const at::ScalarType type = call.hidden_ND.scalar_type();
  const bool is_small = type == at::kBFloat16 || type == at::kHalf;
  const at::ScalarType wide = is_small ? at::kFloat : type;
  const std::int64_t most_rows = std::clamp<std::int64_t>(kRowsNumbers / V, 1, N);
  const at::Tensor logits = room(logits_, {most_rows, V}, wide, device);
  const at::Tensor gradients =
      is_small && call.wants_gradients() ? room(gradient_, {most_rows, V}, type, device) : logits;
  const at::Tensor loss_N = room(loss_, {N}, at::kDouble, device);
  at::Tensor weight_VD = call.weight_VD;
  if (weight_VD.scalar_type() != type) {
    weight_VD = room(weight_block_, {V, D}, type, device);
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
