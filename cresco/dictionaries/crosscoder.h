// A crosscoder over the snapshots of one matrix: its settings, parameters, initial values and
// forward pass.
//
// Shape suffixes in this folder: B rows of a batch, V rows of the whole matrix, K snapshots (heads
// of the crosscoder), D model width, F features. K D stands for the two axes together, as one.
//
//   p[b,f]   = sum_k (x[b,k] . W_E[k,:,f] + b_E[k,f])        one pre-activation for all heads
//   n[k,f]   = |W_D[k,f]|                                     Euclidean norm of the decoder row
//   open     = p n > theta,  theta = exp(log_threshold)       the gate: it alone depends on the
//   head a[b,k,f] = p[b,f] where open, else 0                      the code r[b,k]   = a[b,k] .
//   W_D[k] + b_D[k]                       the reconstruction
#pragma once

#include "cresco/base/fields.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// The rectangle of the threshold's surrogate gradient is this wide, in units of p n.
inline constexpr double kThresholdWindow = 4.0;

// Settings under the names that the released dictionaries record them by.
struct CrosscoderConfig {
  double lr = 5e-5;
  double l1_coefficient = 0.3, frequency_scale = 0.01, tanh_stretch_coefficient = 1.0;
  double jumprelu_lr_factor = 0.1, init_threshold = 0.1, decoder_transpose_init = 1.0;
  std::string amp_dtype = "fp32", optimizer = "adam";
  std::int64_t n_epochs = 300, batch_size = 1024;
  double expansion_factor = 0;
  std::int64_t d_sae = 0;
  std::string input_preprocess = "center_scale";
  double l1_warmup_fraction = 0.05, lr_warmup_fraction = 0, lr_decay_fraction = 0;
  double auxk_coefficient = 0;
  std::int64_t auxk_k = 512, dead_window_steps = 100;

  void fields(FieldVisitor& v) {
    v.field("lr", lr, "learning rate of weights and biases");
    v.field("l1_coefficient", l1_coefficient, "weight of the sparsity term");
    v.field("frequency_scale", frequency_scale,
            "mean score at which a feature's penalty has doubled");
    v.field("tanh_stretch_coefficient", tanh_stretch_coefficient,
            "factor inside the sparsity term's tanh");
    v.field("jumprelu_lr_factor", jumprelu_lr_factor,
            "the thresholds' learning rate, as a share of lr");
    v.field("init_threshold", init_threshold, "every threshold at the start");
    v.field("decoder_transpose_init", decoder_transpose_init,
            "the encoder starts as this times the decoder's transpose; 0: drawn by itself");
    v.field("amp_dtype", amp_dtype, "precision of the two large products: fp32");
    v.field("optimizer", optimizer, "adam | sparse_adam");
    v.field("n_epochs", n_epochs, "passes over the rows");
    v.field("batch_size", batch_size, "rows in a step");
    v.field("expansion_factor", expansion_factor, "d_sae by the model's width; 0: from d_sae");
    v.field("d_sae", d_sae, "features");
    v.field("input_preprocess", input_preprocess, "none | center | center_scale, per snapshot");
    v.field("l1_warmup_fraction", l1_warmup_fraction,
            "share of the steps over which sparsity sets in");
    v.field("lr_warmup_fraction", lr_warmup_fraction, "share of the steps over which lr rises");
    v.field("lr_decay_fraction", lr_decay_fraction, "share of the steps over which lr falls to 0");
    v.field("auxk_coefficient", auxk_coefficient,
            "weight of the loss that revives dead features; 0 is off");
    v.field("auxk_k", auxk_k, "dead features that this loss uses per row");
    v.field("dead_window_steps", dead_window_steps, "a feature silent for longer is dead", "steps");
  }
};

// UsageError for a setting out of range.
void check(const CrosscoderConfig& config);
// With d_sae and expansion_factor both filled in for a matrix of this width.
CrosscoderConfig resolved(CrosscoderConfig config, std::int64_t width);

// Also the gradients of the parameters.
struct CrosscoderParameters {
  at::Tensor encoder_KDF, encoder_bias_KF, decoder_KFD, decoder_bias_KD, log_threshold_F;

  std::int64_t num_heads() const { return decoder_KFD.size(0); }
  std::int64_t num_features() const { return decoder_KFD.size(1); }
  std::int64_t width() const { return decoder_KFD.size(2); }
  std::int64_t count() const;

  // Under their names in released files: W_E, b_E, W_D, b_D,
  // activation_function.log_jumprelu_threshold.
  std::vector<tensor::NamedTensor> named() const;
  CrosscoderParameters empty_like() const;
};

// All heads start alike, from one drawn encoder (D,F) and decoder (F,D); biases are 0.
CrosscoderParameters initial_parameters(const CrosscoderConfig& config, std::int64_t num_heads,
                                        const at::Tensor& encoder_DF, const at::Tensor& decoder_FD);

// What evaluation needs of a crosscoder, with the decoder norms computed once.
class Crosscoder {
 public:
  explicit Crosscoder(CrosscoderParameters parameters);

  const CrosscoderParameters& parameters() const { return parameters_; }
  const at::Tensor& norm_KF() const { return norm_KF_; }
  const at::Tensor& threshold_F() const { return threshold_F_; }

  at::Tensor pre_activation(const at::Tensor& x_BKD) const;         // p_BF
  at::Tensor open(const at::Tensor& p_BF, std::int64_t k) const;    // bool (B,F)
  at::Tensor codes(const at::Tensor& p_BF, std::int64_t k) const;   // a_BF of head k
  at::Tensor decode(const at::Tensor& a_BF, std::int64_t k) const;  // r_BD of head k
  at::Tensor reconstruct(const at::Tensor& x_BKD) const;            // r_BKD

 private:
  CrosscoderParameters parameters_;
  at::Tensor norm_KF_, threshold_F_;
};

}  // namespace cresco::dictionaries
