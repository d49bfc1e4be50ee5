// A dictionary over the snapshots of one matrix: its settings, parameters, initial values and
// forward pass. With K snapshots it is a crosscoder of K heads, with one a sparse autoencoder.
//
// Shape suffixes in this folder: B rows of a batch, V rows of the whole matrix, K snapshots (heads
// of the crosscoder), D model width, F features. K D stands for the two axes together, as one.
//
//   p[b,f]   = sum_k (x[b,k] . W_E[k,:,f] + b_E[k,f])    one pre-activation for all heads
//   n[k,f]   = |W_D[k,f]|                                Euclidean norm of the decoder row
//   a[b,k,f]                                             the code: p or 0, as the activation says
//   r[b,k]   = a[b,k] . W_D[k] + b_D[k]                  the reconstruction
#pragma once

#include "cresco/base/fields.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// Which pre-activations become codes. Only JumpRelu has a gate for each head; with the others all
// heads share one code.
//   JumpRelu        p where p n[k] > theta, theta = exp(log_threshold)
//   SharedJumpRelu  p where p > theta
//   TopK            the k largest ReLU(p) of each row
//   BatchTopK       the (rows k) largest ReLU(p) of all rows taken together: a code depends on the
//                   rows beside it, so rows are taken in slices of `slice_rows`
//   Gated           ReLU(exp(r_mag) p + b_mag) where p + b_gate > 0
//   Relu            ReLU(p)
enum class ActivationKind { JumpRelu, SharedJumpRelu, TopK, BatchTopK, Gated, Relu };

struct Activation {
  ActivationKind kind = ActivationKind::JumpRelu;
  std::int64_t k = 0;           // of TopK and BatchTopK
  std::int64_t slice_rows = 0;  // of BatchTopK: the batch size of the training; 0: all rows given

  bool has_threshold() const {
    return kind == ActivationKind::JumpRelu || kind == ActivationKind::SharedJumpRelu;
  }
};
// "jumprelu", "shared_jumprelu", "topk", "batchtopk", "gated", "relu".
const char* name_of(ActivationKind kind);
ActivationKind activation_named(const std::string& name);  // UsageError that names them all

// The rectangle of the threshold's surrogate gradient is this wide, in units of p n.
inline constexpr double kThresholdWindow = 4.0;

// Settings under the names that the released dictionaries record them by.
struct CrosscoderConfig {
  double lr = 5e-5;
  double l1_coefficient = 0.3, frequency_scale = 0.01, tanh_stretch_coefficient = 1.0;
  double jumprelu_lr_factor = 0.1, init_threshold = 0.1, decoder_transpose_init = 1.0;
  std::string amp_dtype = "fp32", optimizer = "adam";
  double weight_decay = 0;
  std::int64_t n_epochs = 300, batch_size = 1024;
  double expansion_factor = 0;
  std::int64_t d_sae = 0;
  std::string input_preprocess = "center_scale";
  double l1_warmup_fraction = 0.05, lr_warmup_fraction = 0, lr_decay_fraction = 0;
  double auxk_coefficient = 0;
  std::int64_t auxk_k = 512, dead_window_steps = 100;
  double noise_std = 0;
  double target_l0 = 0;
  std::int64_t k = 203;
  double gated_l1_coefficient = 0.3, bandwidth = 4;

  void fields(FieldVisitor& v) {
    v.alias("tanh_stretch", "tanh_stretch_coefficient");
    v.alias("precision", "amp_dtype");
    v.alias("use_sparse_adam", "optimizer", "sparse_adam");
    v.alias("epochs", "n_epochs");
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
    v.field("amp_dtype", amp_dtype,
            "fp32; bf16: the encoder's product from bfloat16, on a GPU the others as with tf32; "
            "tf32, on a GPU: all products from inputs of ten bits");
    v.field("optimizer", optimizer, "adam | adamw | sparse_adam");
    v.field("weight_decay", weight_decay, "of adamw: decoupled, of encoder and decoder weights");
    v.field("n_epochs", n_epochs, "passes over the rows");
    v.field("batch_size", batch_size, "rows in a step");
    v.field("expansion_factor", expansion_factor,
            "number of features as a multiple of the width, in place of d_sae; 0: d_sae says it");
    v.field("d_sae", d_sae, "number of features; this or expansion_factor is needed");
    v.field("input_preprocess", input_preprocess, "none | center | center_scale, per snapshot");
    v.field("l1_warmup_fraction", l1_warmup_fraction,
            "share of the steps over which sparsity sets in");
    v.field("lr_warmup_fraction", lr_warmup_fraction, "share of the steps over which lr rises");
    v.field("lr_decay_fraction", lr_decay_fraction, "share of the steps over which lr falls to 0");
    v.field("auxk_coefficient", auxk_coefficient,
            "weight of the loss that revives dead features; 0 is off");
    v.field("auxk_k", auxk_k, "dead features that this loss uses per row");
    v.field("dead_window_steps", dead_window_steps, "a feature silent for longer is dead", "steps");
    v.field("noise_std", noise_std, "deviation of normal noise on each batch; 0 is none");
    v.field("target_l0", target_l0,
            "steer l1_coefficient, from its value on, until this many features are active; 0: it "
            "stays");
    v.field("k", k, "of topk and batchtopk: active features per row");
    v.field("gated_l1_coefficient", gated_l1_coefficient, "of gated: weight of its sparsity term");
    v.field("bandwidth", bandwidth, "of jumprelu: width of the sigmoid that stands for the step");
  }
};

// UsageError for a setting out of range.
void check(const CrosscoderConfig& config);
// A d_sae of 0 becomes that of the expansion factor, which then is made exact. UsageError when no
// feature is left, and when both are there and disagree.
void resolve_size(std::int64_t& d_sae, double& expansion_factor, std::int64_t width);
// With d_sae and expansion_factor both filled in for a matrix of this width.
CrosscoderConfig resolved(CrosscoderConfig config, std::int64_t width);

// Also the gradients of the parameters. Tensors that the activation does not have are undefined:
// the threshold with all but the two JumpRelus, the last three with all but Gated.
struct CrosscoderParameters {
  at::Tensor encoder_KDF, encoder_bias_KF, decoder_KFD, decoder_bias_KD, log_threshold_F;
  at::Tensor gate_bias_F, log_magnitude_F, magnitude_bias_F;

  std::int64_t num_heads() const { return decoder_KFD.size(0); }
  std::int64_t num_features() const { return decoder_KFD.size(1); }
  std::int64_t width() const { return decoder_KFD.size(2); }
  std::int64_t count() const;  // of numbers

  // Those there are, under their names in released files: W_E, b_E, W_D, b_D, and below
  // activation_function. log_jumprelu_threshold, or b_gate, r_mag and b_mag.
  std::vector<tensor::NamedTensor> named() const;
  CrosscoderParameters empty_like() const;
  CrosscoderParameters heads(std::int64_t first, std::int64_t count) const;  // of these alone
  CrosscoderParameters to(at::Device device) const;  // those there already are not copied
};

// All heads start alike, from one drawn encoder (D,F) and decoder (F,D); biases are 0.
CrosscoderParameters initial_parameters(const CrosscoderConfig& config, std::int64_t num_heads,
                                        const at::Tensor& encoder_DF, const at::Tensor& decoder_FD);

// What evaluation needs of a dictionary, with the decoder norms computed once.
class Crosscoder {
 public:
  explicit Crosscoder(CrosscoderParameters parameters, Activation activation = {});

  const CrosscoderParameters& parameters() const { return parameters_; }
  const Activation& activation() const { return activation_; }
  const at::Tensor& norm_KF() const { return norm_KF_; }
  const at::Tensor& threshold_F() const { return threshold_F_; }  // undefined without one

  at::Tensor pre_activation(const at::Tensor& x_BKD) const;         // p_BF
  at::Tensor codes(const at::Tensor& p_BF, std::int64_t k) const;   // a_BF of head k
  at::Tensor open(const at::Tensor& p_BF, std::int64_t k) const;    // bool (B,F): a > 0
  at::Tensor decode(const at::Tensor& a_BF, std::int64_t k) const;  // r_BD of head k
  at::Tensor reconstruct(const at::Tensor& x_BKD) const;            // r_BKD

  // Heads share their codes: codes(p, k) is the same for every k.
  bool shares_codes() const { return activation_.kind != ActivationKind::JumpRelu; }
  // The largest number of rows up to `rows` that may be given at once without changing a code:
  // whole slices of BatchTopK, anything else as it is. At least one slice.
  std::int64_t whole_slices(std::int64_t rows) const;

 private:
  at::Tensor select_largest(const at::Tensor& p_BF) const;

  CrosscoderParameters parameters_;
  Activation activation_;
  at::Tensor norm_KF_, threshold_F_;
};

}  // namespace cresco::dictionaries
