// The loss of one batch and its gradients, written out.
//
//   l_rec = mean over (b,k) of |r[b,k] - x[b,k]|^2
//   s     = tanh(c a n);  m[f] = mean of s over b and k;  l_s = sum_f m (1 + m/alpha)
//   loss  = l_rec + lambda l_s
//
// With M = B K, e = (2/M)(r - x), G[f] = (lambda/M)(1 + 2 m/alpha), w the width of the threshold's
// window:
//   g[b,k,f]         = e[b,k] . W_D[k,f] + G c n (1 - s^2)            gradient on the code
//   dp[b,f]          = sum of g over the open heads
//   dW_E[k]          = x[:,k]^T dp;   db_E[k] = sum_b dp              the same for every head
//   dW_D[k,f]        = sum_b a e[b,k] + (sum_b G c a (1 - s^2)) W_D[k,f]/n
//   db_D[k]          = sum_b e[b,k]
//   dlog_threshold   = -(theta^2/w) sum over (b,k) with 0 < p n and |p n - theta| < w/2 of g/n
// The gate passes no gradient to n, and W_D/n and g/n count as 0 where n is 0.
#pragma once

#include "cresco/dictionaries/crosscoder.h"

namespace cresco::dictionaries {

struct LossTerms {
  double loss = 0, l_rec = 0, l_s = 0;
  double l0 = 0;                 // mean open gates per row and head
  double sum_squared_error = 0;  // of the whole batch
};

class CrosscoderStep {
 public:
  // Keeps the working memory for batches of up to `max_rows` rows: two arrays (K,B,F), one (B,F),
  // and two more (B,F) per thread.
  CrosscoderStep(const CrosscoderConfig& config, std::int64_t max_rows,
                 const CrosscoderParameters& parameters);

  // x_BKD is contiguous; `gradients` is overwritten.
  LossTerms operator()(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                       double l1_coefficient, CrosscoderParameters& gradients);

 private:
  // What one thread needs for the backward pass of its heads.
  struct ThreadBuffers {
    at::Tensor dp_BF, from_decoder_BF, code_pull_CF, near_threshold_CF;
    bool used = false;
  };

  LossTerms forward(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                    double l1_coefficient);
  void backward(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                double l1_coefficient, CrosscoderParameters& gradients);
  void forward_head(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                    std::int64_t k);
  void backward_head(const CrosscoderParameters& parameters, const at::Tensor& pull_F,
                     ThreadBuffers& buffers, std::int64_t rows, std::int64_t k,
                     CrosscoderParameters& gradients);
  ThreadBuffers& buffers_of_this_thread();

  CrosscoderConfig config_;
  std::int64_t max_rows_;
  at::Tensor p_BF_, code_KBF_, tanh_score_KBF_, error_KBD_;
  std::vector<ThreadBuffers> thread_buffers_;
  // Of the batch at hand.
  at::Tensor norm_KF_, inverse_norm_KF_, threshold_F_, mean_score_F_;
  at::Tensor score_sum_KF_, near_threshold_KF_;
  std::vector<double> squared_error_K_;
  std::vector<std::int64_t> num_open_K_;
};

}  // namespace cresco::dictionaries
