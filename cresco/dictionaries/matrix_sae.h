// Sparse autoencoders of one matrix: nine classes of one shape. With z the pre-activation, c the
// code, r the reconstruction and rows of W_dec of length 1:
//
//   z[b,f] = (x[b] - b_dec) . W_enc[:,f] + b_enc[f]
//   r[b]   = c[b] . W_dec + b_dec
//
// clang-format off
//   class                  code                                          trained by recon and
//   gated                  [z + b_gate > 0] ReLU(exp(r_mag) z + b_mag),  lambda sigmoid(z + b_gate)
//                          without b_enc
//   jumprelu               z [z > theta], theta = exp(log_threshold)     lambda sigmoid((z - theta)/w)
//   vanilla_l1             ReLU(z)                                       lambda |c|
//   topk, tied_topk        the k largest ReLU(z) of each row             AuxK
//   batchtopk,             the (rows k) largest ReLU(z) of all rows      -
//     tied_batchtopk
//   matryoshka,            as batchtopk, for each of several levels      (mean of the levels' recon)
//     tied_matryoshka      that use the first m features only
// clang-format on
//
// recon is the mean over rows of |r - x|^2; what stands beside lambda is summed over features and
// averaged over rows. Steps are differentiated as straight_through.h says, w is `bandwidth`. In a
// tied class W_enc is the transpose of W_dec.
//
// AuxK: with e = x - r held constant, the mean over rows of |e - c' . W_dec|^2, where c' is ReLU of
// the k_aux largest z among the dead features of a row.
//
// Matryoshka levels: { max(k, floor(F / 2^i)), i = 0, 1, ... }, each with k codes per row.
//
// Shape suffixes as in crosscoder.h: B rows, V rows of the whole matrix, D width, F features.
#pragma once

#include "cresco/dictionaries/crosscoder.h"

#include <string>
#include <vector>

namespace cresco::dictionaries {

struct MatrixSaeClass {
  const char* name;
  ActivationKind activation;  // of the dictionary that comes of it
  bool tied = false, nested = false;

  // Those with a penalty, whose weight lambda is steered towards `target_l0`.
  bool has_penalty() const {
    return activation == ActivationKind::Gated || activation == ActivationKind::JumpRelu ||
           activation == ActivationKind::Relu;
  }
  bool has_auxk() const { return activation == ActivationKind::TopK; }
};
const std::vector<MatrixSaeClass>& matrix_sae_classes();
const MatrixSaeClass& matrix_sae_class(const std::string& name);  // UsageError that names them all

struct MatrixSaeConfig {
  std::string sae_class = "topk";
  std::int64_t d_sae = 0;
  double expansion_factor = 0;
  std::string input_preprocess = "center_scale";
  std::int64_t k = 12, k_aux = 0;
  double auxk_coefficient = 1.0 / 32;
  std::int64_t dead_refresh = 100, matryoshka_levels = 4;
  double target_l0 = 12, init_lambda = 0.01, lambda_rate = 0.03;
  double min_lambda = 1e-8, max_lambda = 10;
  std::int64_t lambda_warmup = 2000;
  double init_threshold = 0.001, bandwidth = 0.01;
  double lr = 3e-4;
  std::int64_t n_epochs = 8000;
  double weight_decay = 0, noise_std = 0;
  std::int64_t lr_warmup = 0;
  double lr_start = 1e-6, grad_clip = 0;
  std::int64_t patience = 0, val_every = 10;
  double val_fraction = 0.1;
  std::int64_t resample_every = 0, resample_margin = 1000;

  void fields(FieldVisitor& v) {
    v.field("class", sae_class,
            "gated | jumprelu | topk | tied_topk | batchtopk | tied_batchtopk | matryoshka | "
            "tied_matryoshka | vanilla_l1");
    v.field("d_sae", d_sae, "number of features; this or expansion_factor is needed");
    v.field("expansion_factor", expansion_factor,
            "number of features as a multiple of the width, in place of d_sae; 0: d_sae says it");
    v.field("input_preprocess", input_preprocess, "none | center | center_scale");
    v.field("k", k, "active features per row of the topk, batchtopk and matryoshka classes");
    v.field("k_aux", k_aux, "dead features per row in AuxK; 0: 2 k");
    v.field("auxk_coefficient", auxk_coefficient, "weight of AuxK, in the topk classes");
    v.field("dead_refresh", dead_refresh, "AuxK's dead features are found again every so many",
            "epochs");
    v.field("matryoshka_levels", matryoshka_levels,
            "of the matryoshka classes: each has half the features of the next");
    v.field("target_l0", target_l0,
            "active features per row that lambda is steered to, in gated, jumprelu and vanilla_l1");
    v.field("init_lambda", init_lambda, "the penalty's weight at the start");
    v.field("lambda_rate", lambda_rate,
            "log lambda moves by this times (l0 - target_l0) / max(target_l0, 1) an epoch");
    v.field("min_lambda", min_lambda, "smallest lambda");
    v.field("max_lambda", max_lambda, "largest lambda");
    v.field("lambda_warmup", lambda_warmup,
            "the penalty sets in over so many, then steering begins", "epochs");
    v.field("init_threshold", init_threshold, "every threshold of jumprelu at the start");
    v.field("bandwidth", bandwidth, "width of the sigmoid behind jumprelu's step");
    v.field("lr", lr, "learning rate");
    v.field("n_epochs", n_epochs, "steps, each on all rows");
    v.field("weight_decay", weight_decay, "decoupled, of every tensor: Adam becomes AdamW");
    v.field("noise_std", noise_std, "of Gaussian noise on the input; the target stays clean");
    v.field("lr_warmup", lr_warmup, "epochs over which lr rises from lr_start times lr; 0: none",
            "epochs");
    v.field("lr_start", lr_start, "share of lr that its warm-up begins at");
    v.field("grad_clip", grad_clip, "largest L2 norm of the gradient; 0 is no clipping");
    v.field("patience", patience,
            "stop when the held-out rows got no better for so many; 0: never, none are held out",
            "epochs");
    v.field("val_every", val_every, "the held-out rows are looked at every so many", "epochs");
    v.field("val_fraction", val_fraction, "share of the rows that early stopping holds out");
    v.field("resample_every", resample_every,
            "features that never fire are drawn anew every so many; 0: never", "epochs");
    v.field("resample_margin", resample_margin, "no resampling in the last so many", "epochs");
  }
};

// UsageError for a setting out of range.
void check(const MatrixSaeConfig& config);
// With d_sae, expansion_factor and k_aux filled in for a matrix of this width.
MatrixSaeConfig resolved(MatrixSaeConfig config, std::int64_t width);

// Sizes of the levels, ascending, the last all features; without nesting that alone.
std::vector<std::int64_t> levels(const MatrixSaeConfig& config);

// Undefined is what the class does not have.
struct MatrixSaeParameters {
  at::Tensor encoder_DF, encoder_bias_F, decoder_FD, decoder_bias_D;
  at::Tensor log_threshold_F;
  at::Tensor gate_bias_F, log_magnitude_F, magnitude_bias_F;

  // Those there are: W_enc, b_enc, W_dec, b_dec, log_threshold, b_gate, r_mag, b_mag.
  std::vector<tensor::NamedTensor> named() const;
};

// Encoder uniform in +-1/sqrt(D), decoder in +-1/sqrt(F) and then of unit rows, biases 0. They
// require a gradient.
MatrixSaeParameters initial_matrix_sae(const MatrixSaeConfig& config, std::uint64_t seed,
                                       std::int64_t width);

class MatrixSae {
 public:
  MatrixSae(const MatrixSaeConfig& resolved, MatrixSaeParameters parameters);

  const MatrixSaeConfig& config() const { return config_; }
  const MatrixSaeClass& kind() const { return *class_; }
  const MatrixSaeParameters& parameters() const { return parameters_; }

  at::Tensor pre_activation(const at::Tensor& x_BD) const;  // z_BF
  at::Tensor codes(const at::Tensor& z_BF) const;           // c_BF, those of all features
  at::Tensor decode(const at::Tensor& code_BF) const;       // r_BD
  at::Tensor reconstruct(const at::Tensor& x_BD) const;

  // Scalars that autograd can go back from.
  struct Loss {
    at::Tensor loss;   // what is trained
    at::Tensor recon;  // of the reconstruction from all features
    at::Tensor aux;    // the penalty without lambda, or AuxK without its weight; 0 in other classes
    at::Tensor code_BF;
  };
  // The input is that of z_BF, `x_BD` what has to come out. `lambda` weighs the penalty;
  // `dead_F` (bool) is for AuxK and otherwise unused.
  Loss loss(const at::Tensor& z_BF, const at::Tensor& x_BD, double lambda,
            const at::Tensor& dead_F) const;

  void normalise_decoder();  // rows of W_dec to length 1, in place

  // As a dictionary of one head. x - b_dec is folded into the bias: b_E = b_enc - b_dec . W_enc.
  CrosscoderParameters folded() const;
  // Codes of batchtopk are chosen among all `num_rows` rows of the matrix.
  Activation activation(std::int64_t num_rows) const;

 private:
  at::Tensor encoder_DF() const;
  at::Tensor folded_bias_F() const;
  at::Tensor penalty(const at::Tensor& z_BF, const at::Tensor& code_BF) const;
  at::Tensor auxk(const at::Tensor& z_BF, const at::Tensor& residual_BD,
                  const at::Tensor& dead_F) const;

  MatrixSaeConfig config_;
  const MatrixSaeClass* class_;
  MatrixSaeParameters parameters_;
};

}  // namespace cresco::dictionaries
