// A fit with a folder: its log, its resume states, the dictionary that comes of it. The folder is
// that of a crosscoder's training (training_folder.h), with epochs for steps. A training that was
// stopped at any epoch and goes on leaves bitwise the same as one that was not, on the same machine
// and number of threads.
#pragma once

#include "cresco/artifacts/manifest.h"
#include "cresco/dictionaries/matrix_sae_fit.h"
#include "cresco/dictionaries/released.h"

#include <functional>
#include <string>

namespace cresco::dictionaries {

struct MatrixSaeRun {
  MatrixSaeConfig training;
  std::string name;                  // of the dictionary's files
  std::string model_name, matrix;    // whose matrix it is,
  std::int64_t step = 0;             // and at which step
  Json provenance = Json::object();  // recorded with the dictionary
  std::uint64_t seed = 0;
  std::string resume = "auto";     // auto: go on from a state when there is one | never | must
  std::int64_t log_every = 100;    // epochs between lines of metrics.jsonl
  std::int64_t state_every = 500;  // epochs between states; 0: only when the training stops early
  bool overwrite = false;
  bool skip_complete = false;    // a complete folder of these settings is not an Error
  std::string resume_command;    // what Interrupted tells the user to type
  artifacts::Manifest manifest;  // written before COMPLETE; overwriting spares its inputs
  std::function<bool()> stop_requested = [] { return false; };
};

struct MatrixSaeOutcome {
  std::vector<Path> files;
  std::int64_t epochs = 0;
  std::string stopped;        // why it ended early: "patience", "not_finite", or ""
  Json quality;               // the dictionary's
  bool was_complete = false;  // nothing was done
};

// UsageError for settings out of range.
void check(const MatrixSaeRun& run);

// x_VD is on the CPU and preprocessed as `training.input_preprocess` says. Interrupted after a stop
// that was asked for.
MatrixSaeOutcome train_matrix_sae(const MatrixSaeRun& run, const at::Tensor& x_VD,
                                  const Path& folder, Progress& progress);

// FLOPs of all epochs: two for each row, column and feature, in each of encoder and decoder,
// forwards and twice backwards (the encoder once: its input needs no gradient).
double matrix_sae_flops(const MatrixSaeConfig& resolved, std::int64_t num_rows, std::int64_t width);
// The largest that a process gets that trains one: what autograd keeps of an epoch's rows, weights,
// gradients, moments and what is kept, the program.
double matrix_sae_bytes(const MatrixSaeConfig& resolved, std::int64_t num_rows, std::int64_t width);

}  // namespace cresco::dictionaries
