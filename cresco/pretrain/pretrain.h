// The training loop: a recipe and data become a run folder.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dist/ranks.h"
#include "cresco/pretrain/data.h"
#include "cresco/pretrain/recipe.h"
#include "cresco/pretrain/run_folder.h"
#include "cresco/pretrain/train_step.h"
#include "cresco/tensor/bridge.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cresco::pretrain {

struct PretrainJob {
  Recipe recipe;                             // checked, vocab_size resolved
  RunFolder run;                             // exists, locked by the caller
  std::vector<tensor::NamedTensor> initial;  // float32 weights at step 0
  std::optional<std::int64_t> end_of_text;   // id, for config.json
  std::string resume_command;                // printed when interrupted
  std::int64_t stop_after = -1;              // tests: end without COMPLETE after that many steps
  at::Device device = at::kCPU;
  // Ranks that share each batch: every one has the model, the first writes the run.
  dist::Ranks* ranks = &dist::one_rank();
  // The recipe changed, as was allowed, at the newest state: called by the first rank when every
  // rank has read that, before anything of the run is changed.
  std::function<void()> record_changes;
  double peak_gflops = 0;  // of all ranks' products, for `mfu`; 0: not said
};

struct PretrainResult {
  std::int64_t step = 0, tokens = 0;
  double train_loss = 0, val_loss = 0, tokens_per_second = 0;
  double seconds = 0;                   // of this run of the program
  double snapshot_seconds = 0;          // of them, that training stood still for snapshots
  std::vector<std::int64_t> snapshots;  // the steps of those that are there
};

// Runs from the newest state in the folder, or from the start when there is none. A run that was
// stopped anywhere and resumed on a CPU writes the same bytes as one that was not, wall_time and
// rates aside, on the same machine with the same number of threads and ranks; with another number
// of ranks, or on a GPU, it reads the same data and differs by rounding. Throws Interrupted after a
// Ctrl-C, with a state written; Error that names step and last good state when the loss or a
// gradient is not finite.
PretrainResult pretrain(const PretrainJob& job, const RunData& data, Progress& progress);

// What a run that is complete said of itself, from the last line of its metrics.
PretrainResult finished_result(const Recipe& recipe, const RunFolder& run);

// Mean cross entropy in nats over the first windows of the validation text, eval.tokens at most;
// ranks share them.
double validation_loss(GradientStep& step, const RunData& data, const Recipe& recipe,
                       at::Device device, dist::Ranks& ranks);
std::int64_t num_validation_windows(const RunData& data, const Recipe& recipe);

}  // namespace cresco::pretrain
