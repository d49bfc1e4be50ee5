// Fitting a sparse autoencoder to one matrix, in memory: an epoch is one step on all rows.
//
// At the start of epoch e, in this order: the held-out rows are looked at (patience > 0, e a
// multiple of val_every), features that never fire are drawn anew (resample_every), the input gets
// its noise, AuxK's dead features are found (dead_refresh). Then the loss, the update (Adam, or
// AdamW with weight_decay), rows of W_dec to length 1, and log lambda moves once e >=
// lambda_warmup.
//
// Every random number is a function of the seed, what it is for and the epoch, so that a fit which
// goes on from a state is bitwise one that never stopped.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dictionaries/matrix_sae.h"
#include "cresco/optim/optimizer.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cresco::dictionaries {

// log lambda <- log lambda + rate (l0 - target) / max(target, 1), within its bounds.
double steered_log_lambda(double log_lambda, double l0, const MatrixSaeConfig& config);
// The factor on lr: from lr_start at epoch 0 to 1 at epoch lr_warmup, in a straight line.
double warmup_factor(std::int64_t epoch, const MatrixSaeConfig& config);

// How well it reconstructs some rows; formulas in docs/metrics.md.
struct MatrixSaeQuality {
  double mse = 0, fve = 0, l0 = 0, l0_std = 0, dead_pct = 0;
  std::int64_t dead_features = 0;
};
MatrixSaeQuality measure(const MatrixSae& sae, const at::Tensor& x_VD);

// What an epoch saw, before its update.
struct EpochTerms {
  double loss = 0, recon = 0, aux = 0, l0 = 0, lambda = 0, lr = 0, grad_norm = 0;
  std::optional<double> val_mse;  // in epochs that looked at the held-out rows
};

enum class StopReason { None, Patience, NotFinite };
const char* name_of(StopReason reason);  // "", "patience", "not_finite"

class MatrixSaeFit {
 public:
  // x_VD is on the CPU. Error when the rows are too few to hold some out.
  MatrixSaeFit(const MatrixSaeConfig& config, std::uint64_t seed, const at::Tensor& x_VD);

  std::int64_t epoch() const { return epoch_; }  // updates taken
  bool done() const { return epoch_ == config_.n_epochs || stopped_ != StopReason::None; }
  StopReason stopped() const { return stopped_; }
  std::int64_t best_epoch() const { return best_epoch_; }  // with patience: of the result

  // One epoch. Nothing when it stopped instead: the held-out rows got no better for too long, or a
  // loss or gradient was not finite.
  std::optional<EpochTerms> take_epoch();

  // After the last epoch: leaves the result in sae(). That is the best on the held-out rows, or
  // else the last parameters; those of the last finite loss after a number that was not. Error when
  // there was no finite loss at all.
  void finish();

  const MatrixSae& sae() const { return sae_; }
  const at::Tensor& train_rows_VD() const { return train_VD_; }
  const at::Tensor& held_out_VD() const { return held_out_VD_; }  // undefined without patience

  // What a fit goes on from, and the numbers beside the tensors.
  std::vector<tensor::NamedTensor> state() const;
  Json state_numbers() const;
  void load(const formats::SafetensorsFile& file, const Json& numbers);

 private:
  std::optional<double> look_at_held_out_rows();
  void resample();
  at::Tensor noisy_rows() const;
  void keep_parameters();
  std::vector<tensor::NamedTensor> kept() const;

  MatrixSaeConfig config_;
  std::uint64_t seed_;
  at::Tensor train_VD_, held_out_VD_;
  MatrixSae sae_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::vector<at::Tensor> parameters_, kept_;
  at::Tensor dead_F_;  // bool
  std::int64_t epoch_ = 0, kept_epoch_ = -1, best_epoch_ = 0;
  double log_lambda_ = 0, best_val_ = std::numeric_limits<double>::infinity();
  StopReason stopped_ = StopReason::None;
};

// Rows whose residuals become features: `count` of them, row v with probability proportional to
// weight_V[v] (double); without replacement while that many have any weight.
at::Tensor draw_rows(const at::Tensor& weight_V, std::int64_t count, std::uint64_t seed,
                     std::int64_t epoch);

struct FoldQuality {
  std::int64_t epochs = 0;
  StopReason stopped = StopReason::None;
  MatrixSaeQuality train, held_out;
};
// Rows are dealt into `num_folds` parts of nearly one size; each part is held out of one fit.
// Interrupted, with what the user has to type, after a stop that was asked for.
std::vector<FoldQuality> cross_validate(
    const MatrixSaeConfig& config, std::uint64_t seed, const at::Tensor& x_VD,
    std::int64_t num_folds, Progress& progress,
    const std::function<bool()>& stop_requested = [] { return false; },
    const std::string& resume_command = "");

}  // namespace cresco::dictionaries
