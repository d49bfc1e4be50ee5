// cresco train-sae STACK --class C --d-sae F --out DIR: a sparse autoencoder of each snapshot.
#pragma once

#include "cresco/dictionaries/matrix_sae.h"
#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct TrainMatrixSaeConfig {
  std::string stack, steps = "all", resume = "auto";
  dictionaries::MatrixSaeConfig training;
  std::int64_t folds = 0, log_every = 100, state_every = 500;

  void fields(FieldVisitor& v) {
    v.field("stack", stack, "a stack file, from extract");
    v.field("steps", steps, "one dictionary for each of these: a list, a range, all or a preset");
    training.fields(v);
    v.field("folds", folds,
            "cross-validation beside the training, in so many parts (5 is usual); 0: none");
    v.field("log_every", log_every, "between lines of metrics.jsonl", "epochs");
    v.field("state_every", state_every, "between states to resume from; 0: only when stopped early",
            "epochs");
    v.field("resume", resume, "auto: go on from the newest state in --out | never | must");
  }
};

// The classes that `train` has no kind of the same name for.
std::vector<std::string> kinds_of_train_sae();

// Writes --out/step<N>/ for each step, in which a complete training is left as it is, and the
// tables saes.csv and, with `folds`, cross_validation.csv.
// Summary: `folder`, `dictionaries` [{`step`, `file`, `epochs`, `stopped`, `was_complete`,
// `metrics` {id: value}, with `folds` `folds` [{id: value}]}], `tables`.
Outcome run_train_matrix_sae(const TrainMatrixSaeConfig& config, VerbContext& context);

}  // namespace cresco::verbs
