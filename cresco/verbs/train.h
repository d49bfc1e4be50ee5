// cresco train STACK --d-sae F --out DIR: a stack to a dictionary.
#pragma once

#include "cresco/dictionaries/crosscoder.h"
#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct TrainConfig {
  std::string stack, kind = "crosscoder", name, random = "philox", resume = "auto";
  dictionaries::CrosscoderConfig training;
  std::int64_t max_steps = 0, log_every = 50, state_every = 500;

  void fields(FieldVisitor& v) {
    v.field("stack", stack, "a stack file, from extract");
    v.field("kind", kind, "crosscoder");
    v.field("name", name, "of the dictionary's files; empty: <matrix>_d<d_sae>_seed<seed>");
    training.fields(v);
    v.field("random", random, "philox | torch: PyTorch's own CPU streams, for comparisons");
    v.field("max_steps", max_steps,
            "stop after this many; every schedule stays that of the whole training; 0: all");
    v.field("log_every", log_every, "between lines of metrics.jsonl", "steps");
    v.field("state_every", state_every, "between states to resume from; 0: only when stopped early",
            "steps");
    v.field("resume", resume, "auto: go on from the newest state in --out | never | must");
  }
};

// Summary: `name`, `files`, `metrics` (`pooled` and `snapshots`, as eval), `step`, `folder`.
Outcome run_train(const TrainConfig& config, VerbContext& context);

}  // namespace cresco::verbs
