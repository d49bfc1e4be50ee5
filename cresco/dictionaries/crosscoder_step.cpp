#include "cresco/dictionaries/crosscoder_step.h"

#include "cresco/dictionaries/detail/gates.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace cresco::dictionaries {
namespace {

template <class Number>
detail::Head<Number> head_of(const at::Tensor& p_BF, const at::Tensor& norm_F,
                             const at::Tensor& threshold_F) {
  return {p_BF.size(0), p_BF.size(1), p_BF.const_data_ptr<Number>(),
          norm_F.const_data_ptr<Number>(), threshold_F.const_data_ptr<Number>()};
}

// The first rows of head k of a (K,B,...) buffer, for a batch that may be shorter.
at::Tensor head_rows(const at::Tensor& buffer_KB, std::int64_t k, std::int64_t rows) {
  return buffer_KB[k].narrow(0, 0, rows);
}

// Whole heads go to threads, so that threads meet twice a step instead of at every operation. With
// fewer heads than threads, the operations of a head share them instead.
template <class Task>
void over_heads(std::int64_t num_heads, const Task& task) {
  if (num_heads >= at::get_num_threads()) {
    at::parallel_for(0, num_heads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) task(k);
    });
  } else {
    for (std::int64_t k = 0; k < num_heads; ++k) task(k);
  }
}

}  // namespace

CrosscoderStep::CrosscoderStep(const CrosscoderConfig& config, std::int64_t max_rows,
                               const CrosscoderParameters& parameters)
    : config_(config), max_rows_(max_rows) {
  const auto K = parameters.num_heads(), F = parameters.num_features(), D = parameters.width();
  const auto options = parameters.decoder_KFD.options();
  p_BF_ = at::empty({max_rows, F}, options);
  code_KBF_ = at::empty({K, max_rows, F}, options);
  tanh_score_KBF_ = at::empty({K, max_rows, F}, options);
  error_KBD_ = at::empty({K, max_rows, D}, options);
  score_sum_KF_ = at::empty({K, F}, options);
  near_threshold_KF_ = at::empty({K, F}, options);
  squared_error_K_.resize(static_cast<std::size_t>(K));
  num_open_K_.resize(static_cast<std::size_t>(K));
}

LossTerms CrosscoderStep::operator()(const CrosscoderParameters& parameters,
                                     const at::Tensor& x_BKD, double l1_coefficient,
                                     CrosscoderParameters& gradients) {
  const LossTerms terms = forward(parameters, x_BKD, l1_coefficient);
  backward(parameters, x_BKD, l1_coefficient, gradients);
  return terms;
}

LossTerms CrosscoderStep::forward(const CrosscoderParameters& w, const at::Tensor& x_BKD,
                                  double l1_coefficient) {
  const auto B = x_BKD.size(0), K = x_BKD.size(1);
  const auto M = static_cast<double>(B * K);
  norm_KF_ = at::linalg_vector_norm(w.decoder_KFD, 2, {-1});
  inverse_norm_KF_ = norm_KF_.reciprocal().masked_fill_(norm_KF_.eq(0), 0);
  threshold_F_ = w.log_threshold_F.exp();
  at::Tensor p_BF = p_BF_.narrow(0, 0, B);
  at::addmm_out(p_BF, w.encoder_bias_KF.sum(0), x_BKD.flatten(1), w.encoder_KDF.flatten(0, 1));
  over_heads(K, [&](std::int64_t k) { forward_head(w, x_BKD, k); });
  mean_score_F_ = score_sum_KF_.sum(0).div_(M);

  const at::Tensor mean_F = mean_score_F_.to(at::kDouble);
  LossTerms terms;
  terms.sum_squared_error = std::accumulate(squared_error_K_.begin(), squared_error_K_.end(), 0.0);
  terms.l_rec = terms.sum_squared_error / M;
  terms.l_s = (mean_F * (1 + mean_F / config_.frequency_scale)).sum().item<double>();
  terms.loss = terms.l_rec + l1_coefficient * terms.l_s;
  terms.l0 = static_cast<double>(
                 std::accumulate(num_open_K_.begin(), num_open_K_.end(), std::int64_t{0})) /
             M;
  return terms;
}

// Codes and tanh of the scores, their sums, and the error r - x.
void CrosscoderStep::forward_head(const CrosscoderParameters& w, const at::Tensor& x_BKD,
                                  std::int64_t k) {
  const auto B = x_BKD.size(0);
  const at::Tensor p_BF = p_BF_.narrow(0, 0, B);
  at::Tensor code_BF = head_rows(code_KBF_, k, B), score_BF = head_rows(tanh_score_KBF_, k, B);
  AT_DISPATCH_FLOATING_TYPES(p_BF.scalar_type(), "open_gates", [&] {
    num_open_K_[static_cast<std::size_t>(k)] = detail::open_gates(
        head_of<scalar_t>(p_BF, norm_KF_[k], threshold_F_),
        static_cast<scalar_t>(config_.tanh_stretch_coefficient),
        code_BF.mutable_data_ptr<scalar_t>(), score_BF.mutable_data_ptr<scalar_t>());
  });
  at::Tensor score_sum_F = score_sum_KF_[k], error_BD = head_rows(error_KBD_, k, B);
  at::sum_out(score_sum_F, score_BF.tanh_(), 0);
  at::addmm_out(error_BD, w.decoder_bias_KD[k], code_BF, w.decoder_KFD[k]);
  error_BD.sub_(x_BKD.select(1, k));
  squared_error_K_[static_cast<std::size_t>(k)] = error_BD.square().sum(at::kDouble).item<double>();
}

void CrosscoderStep::backward(const CrosscoderParameters& w, const at::Tensor& x_BKD,
                              double l1_coefficient, CrosscoderParameters& gradients) {
  const auto B = x_BKD.size(0), K = x_BKD.size(1);
  // G c, the same for every head.
  const at::Tensor pull_F =
      (mean_score_F_ * (2 / config_.frequency_scale) + 1)
          .mul_(l1_coefficient / static_cast<double>(B * K) * config_.tanh_stretch_coefficient);
  thread_buffers_.resize(
      std::max(thread_buffers_.size(), static_cast<std::size_t>(at::get_num_threads())));
  for (ThreadBuffers& buffers : thread_buffers_) buffers.used = false;
  over_heads(K, [&](std::int64_t k) {
    ThreadBuffers& buffers = buffers_of_this_thread();
    if (!std::exchange(buffers.used, true)) buffers.dp_BF.zero_();
    backward_head(w, pull_F, buffers, B, k, gradients);
  });

  // A thread's heads are always the same, so the sum over threads has a fixed order.
  at::Tensor dp_BF;
  for (const ThreadBuffers& buffers : thread_buffers_) {
    if (!buffers.used) continue;
    const at::Tensor part_BF = buffers.dp_BF.narrow(0, 0, B);
    dp_BF = dp_BF.defined() ? dp_BF.add_(part_BF) : part_BF;
  }
  at::Tensor encoder_KD_F = gradients.encoder_KDF.flatten(0, 1);
  at::mm_out(encoder_KD_F, x_BKD.flatten(1).t(), dp_BF);
  gradients.encoder_bias_KF.copy_(dp_BF.sum(0).expand_as(gradients.encoder_bias_KF));
  at::mul_out(gradients.log_threshold_F, near_threshold_KF_.sum(0),
              threshold_F_.square().mul_(-1 / kThresholdWindow));
}

void CrosscoderStep::backward_head(const CrosscoderParameters& w, const at::Tensor& pull_F,
                                   ThreadBuffers& buffers, std::int64_t B, std::int64_t k,
                                   CrosscoderParameters& gradients) {
  const auto M = static_cast<double>(B * w.num_heads());
  const auto chunks = detail::num_chunks(B);
  const at::Tensor p_BF = p_BF_.narrow(0, 0, B);
  const at::Tensor code_BF = head_rows(code_KBF_, k, B),
                   tanh_score_BF = head_rows(tanh_score_KBF_, k, B);
  const at::Tensor error_BD = head_rows(error_KBD_, k, B).mul_(2 / M);
  at::Tensor from_decoder_BF = buffers.from_decoder_BF.narrow(0, 0, B);
  at::mm_out(from_decoder_BF, error_BD, w.decoder_KFD[k].t());
  const at::Tensor head_pull_F = pull_F * norm_KF_[k];
  AT_DISPATCH_FLOATING_TYPES(p_BF.scalar_type(), "gate_gradients", [&] {
    detail::gate_gradients(
        head_of<scalar_t>(p_BF, norm_KF_[k], threshold_F_),
        {.code_BF = code_BF.const_data_ptr<scalar_t>(),
         .tanh_score_BF = tanh_score_BF.const_data_ptr<scalar_t>(),
         .from_decoder_BF = from_decoder_BF.const_data_ptr<scalar_t>(),
         .pull_F = head_pull_F.const_data_ptr<scalar_t>(),
         .half_window = static_cast<scalar_t>(kThresholdWindow / 2),
         .pre_activation_BF = buffers.dp_BF.mutable_data_ptr<scalar_t>(),
         .code_pull_CF = buffers.code_pull_CF.mutable_data_ptr<scalar_t>(),
         .near_threshold_CF = buffers.near_threshold_CF.mutable_data_ptr<scalar_t>()});
  });
  near_threshold_KF_[k].copy_(
      buffers.near_threshold_CF.narrow(0, 0, chunks).sum(0).mul_(inverse_norm_KF_[k]));

  at::Tensor decoder_FD = gradients.decoder_KFD[k], decoder_bias_D = gradients.decoder_bias_KD[k];
  at::mm_out(decoder_FD, code_BF.t(), error_BD);
  const at::Tensor along_itself_F =
      buffers.code_pull_CF.narrow(0, 0, chunks).sum(0).mul_(pull_F).mul_(inverse_norm_KF_[k]);
  decoder_FD.addcmul_(w.decoder_KFD[k], along_itself_F.unsqueeze(1));
  at::sum_out(decoder_bias_D, error_BD, 0);
}

CrosscoderStep::ThreadBuffers& CrosscoderStep::buffers_of_this_thread() {
  ThreadBuffers& buffers = thread_buffers_[static_cast<std::size_t>(at::get_thread_num())];
  if (!buffers.dp_BF.defined()) {
    const auto F = p_BF_.size(1), chunks = detail::num_chunks(max_rows_);
    buffers.dp_BF = at::empty({max_rows_, F}, p_BF_.options());
    buffers.from_decoder_BF = at::empty({max_rows_, F}, p_BF_.options());
    buffers.code_pull_CF = at::empty({chunks, F}, p_BF_.options());
    buffers.near_threshold_CF = at::empty({chunks, F}, p_BF_.options());
  }
  return buffers;
}

}  // namespace cresco::dictionaries
