// Whether a reconstructed readout still does its work: a model's own last hidden states, read by
// its readout and by the one that a dictionary gives back.
//
// Shape suffixes: N predictions (or sequences), T positions, D width, V rows of the vocabulary.
// Formulas: docs/metrics.md.
#pragma once

#include "cresco/dictionaries/quality.h"
#include "cresco/evals/vocabulary_strata.h"
#include "cresco/models/language_model.h"

#include <functional>
#include <string>
#include <vector>

namespace cresco::evals {

// The first `count` windows of `context` ids of a corpus, none overlapping, fewer when it ends
// before: (N,T), int64. Of each the first T - 1 positions predict the last T - 1. Error when the
// corpus does not fill one.
at::Tensor first_windows(const Path& corpus, std::int64_t count, std::int64_t context);

// What the readout reads at every position that predicts, window by window, and what it is to
// predict. `batch` windows go through the model at a time.
struct Predictions {
  at::Tensor hidden_ND;  // float32
  at::Tensor target_N;   // int64
};
Predictions predictions_of(const models::LanguageModel& model, const at::Tensor& ids_NT,
                           std::int64_t batch);

// How far the model's own readout is from `native_VD`, on its first hidden states: |a - b|/|a| of
// the logits. Large when the matrix is not of this model.
double readout_difference(const models::LanguageModel& model, const Predictions& predictions,
                          const at::Tensor& native_VD);

struct ReadoutFidelity {
  std::vector<dictionaries::MetricValue> values;  // in the order of the table's columns
  // What the strata are made of, double: of each row |error|^2 and |deviation from the mean row|^2;
  // of each prediction its losses in nats and divergence, and 1 where both readouts agree.
  at::Tensor row_error_V, row_deviation_V;
  at::Tensor nll_native_N, nll_recon_N, kl_N, agrees_N;

  double value(const std::string& id) const;  // Error for an id that it has not
};

// Logits and softmax in float32, over all rows; sums in double, variances merged block by block.
// Some `block_bytes` of logits are in memory at a time. `done` gets the number of predictions so
// far; it may throw.
ReadoutFidelity measure_fidelity(const Predictions& predictions, const at::Tensor& native_VD,
                                 const at::Tensor& recon_VD, std::int64_t block_bytes,
                                 const std::function<void(std::int64_t)>& done = {});

// The same numbers by bin of a partition: of the matrix by its rows, of the text by the token that
// is to be predicted. NaN where a bin has none.
struct FidelityBin {
  std::string partition, bin;
  std::vector<dictionaries::MetricValue> values;  // n_rows and n_targets among them
};
std::vector<FidelityBin> fidelity_by_bin(const ReadoutFidelity& fidelity,
                                         const at::Tensor& target_N, const Partition& partition);

}  // namespace cresco::evals
