#include "cresco/dictionaries/crosscoder_step.h"

#include "cresco/dictionaries/detail/gates.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

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

}  // namespace

CrosscoderStep::CrosscoderStep(const CrosscoderConfig& config, std::int64_t max_rows,
                               const CrosscoderParameters& parameters)
    : config_(config) {
  const auto K = parameters.num_heads(), F = parameters.num_features(), D = parameters.width();
  const auto options = parameters.decoder_KFD.options();
  p_BF_ = at::empty({max_rows, F}, options);
  dp_BF_ = at::empty({max_rows, F}, options);
  from_decoder_BF_ = at::empty({max_rows, F}, options);
  code_KBF_ = at::empty({K, max_rows, F}, options);
  tanh_score_KBF_ = at::empty({K, max_rows, F}, options);
  error_KBD_ = at::empty({K, max_rows, D}, options);
  code_pull_CF_ = at::empty({detail::num_chunks(max_rows), F}, options);
  near_threshold_CF_ = at::empty({detail::num_chunks(max_rows), F}, options);
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
  threshold_F_ = w.log_threshold_F.exp();
  at::Tensor p_BF = p_BF_.narrow(0, 0, B);
  at::addmm_out(p_BF, w.encoder_bias_KF.sum(0), x_BKD.flatten(1), w.encoder_KDF.flatten(0, 1));

  mean_score_F_ = at::zeros_like(threshold_F_);
  std::int64_t num_open = 0;
  double squared_error = 0;
  for (std::int64_t k = 0; k < K; ++k) {
    at::Tensor code_BF = head_rows(code_KBF_, k, B), score_BF = head_rows(tanh_score_KBF_, k, B);
    AT_DISPATCH_FLOATING_TYPES(p_BF.scalar_type(), "open_gates", [&] {
      num_open += detail::open_gates(head_of<scalar_t>(p_BF, norm_KF_[k], threshold_F_),
                                     static_cast<scalar_t>(config_.tanh_stretch_coefficient),
                                     code_BF.mutable_data_ptr<scalar_t>(),
                                     score_BF.mutable_data_ptr<scalar_t>());
    });
    mean_score_F_.add_(score_BF.tanh_().sum(0));

    at::Tensor error_BD = head_rows(error_KBD_, k, B);
    at::addmm_out(error_BD, w.decoder_bias_KD[k], code_BF, w.decoder_KFD[k]);
    error_BD.sub_(x_BKD.select(1, k));
    squared_error += error_BD.square().sum(at::kDouble).item<double>();
  }
  mean_score_F_.div_(M);

  const at::Tensor mean_F = mean_score_F_.to(at::kDouble);
  LossTerms terms;
  terms.sum_squared_error = squared_error;
  terms.l_rec = squared_error / M;
  terms.l_s = (mean_F * (1 + mean_F / config_.frequency_scale)).sum().item<double>();
  terms.loss = terms.l_rec + l1_coefficient * terms.l_s;
  terms.l0 = static_cast<double>(num_open) / M;
  return terms;
}

void CrosscoderStep::backward(const CrosscoderParameters& w, const at::Tensor& x_BKD,
                              double l1_coefficient, CrosscoderParameters& gradients) {
  const auto B = x_BKD.size(0), K = x_BKD.size(1);
  const auto M = static_cast<double>(B * K);
  const auto chunks = detail::num_chunks(B);
  at::Tensor p_BF = p_BF_.narrow(0, 0, B), dp_BF = dp_BF_.narrow(0, 0, B).zero_();
  at::Tensor from_decoder_BF = from_decoder_BF_.narrow(0, 0, B);
  at::Tensor code_pull_CF = code_pull_CF_.narrow(0, 0, chunks);
  at::Tensor near_threshold_CF = near_threshold_CF_.narrow(0, 0, chunks);

  // G c, then the part of each head.
  const at::Tensor pull_F = (mean_score_F_ * (2 / config_.frequency_scale) + 1)
                                .mul_(l1_coefficient / M * config_.tanh_stretch_coefficient);
  const at::Tensor inverse_norm_KF = norm_KF_.reciprocal().masked_fill_(norm_KF_.eq(0), 0);
  at::Tensor near_threshold_F = at::zeros_like(threshold_F_);
  for (std::int64_t k = 0; k < K; ++k) {
    const at::Tensor code_BF = head_rows(code_KBF_, k, B),
                     tanh_score_BF = head_rows(tanh_score_KBF_, k, B);
    const at::Tensor error_BD = head_rows(error_KBD_, k, B).mul_(2 / M);
    at::mm_out(from_decoder_BF, error_BD, w.decoder_KFD[k].t());
    const at::Tensor head_pull_F = pull_F * norm_KF_[k];
    AT_DISPATCH_FLOATING_TYPES(p_BF.scalar_type(), "gate_gradients", [&] {
      detail::gate_gradients(head_of<scalar_t>(p_BF, norm_KF_[k], threshold_F_),
                             {.code_BF = code_BF.const_data_ptr<scalar_t>(),
                              .tanh_score_BF = tanh_score_BF.const_data_ptr<scalar_t>(),
                              .from_decoder_BF = from_decoder_BF.const_data_ptr<scalar_t>(),
                              .pull_F = head_pull_F.const_data_ptr<scalar_t>(),
                              .half_window = static_cast<scalar_t>(kThresholdWindow / 2),
                              .pre_activation_BF = dp_BF.mutable_data_ptr<scalar_t>(),
                              .code_pull_CF = code_pull_CF.mutable_data_ptr<scalar_t>(),
                              .near_threshold_CF = near_threshold_CF.mutable_data_ptr<scalar_t>()});
    });
    near_threshold_F.addcmul_(near_threshold_CF.sum(0), inverse_norm_KF[k]);

    at::Tensor decoder_FD = gradients.decoder_KFD[k], decoder_bias_D = gradients.decoder_bias_KD[k];
    at::mm_out(decoder_FD, code_BF.t(), error_BD);
    const at::Tensor along_itself_F = code_pull_CF.sum(0).mul_(pull_F).mul_(inverse_norm_KF[k]);
    decoder_FD.addcmul_(w.decoder_KFD[k], along_itself_F.unsqueeze(1));
    at::sum_out(decoder_bias_D, error_BD, 0);
  }

  at::Tensor encoder_KD_F = gradients.encoder_KDF.flatten(0, 1);
  at::mm_out(encoder_KD_F, x_BKD.flatten(1).t(), dp_BF);
  gradients.encoder_bias_KF.copy_(dp_BF.sum(0).expand_as(gradients.encoder_bias_KF));
  at::mul_out(gradients.log_threshold_F, near_threshold_F,
              threshold_F_.square().mul_(-1 / kThresholdWindow));
}

}  // namespace cresco::dictionaries
