// cresco bench pretrain: the time of one training step of a recipe's model, by part.
#pragma once

#include "cresco/pretrain/recipe.h"
#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

// The recipe's fields may be set beside the verb's own, as for pretrain.
struct BenchPretrainConfig {
  std::string recipe;
  std::int64_t sequences = 0, repeats = 7;
  std::string write_start, updated;
  pretrain::Recipe settings;

  void fields(FieldVisitor& v) {
    v.field("recipe", recipe, "a recipe's YAML file");
    v.field("sequences", sequences, "windows of a step; 0 is the recipe's micro-batch");
    v.field("repeats", repeats, "how often; medians are given");
    v.field("write_start", write_start,
            "only write the start: weights, ids, settings, for other programs");
    v.field("updated", updated, "write the weights after the first step");
    settings.fields(v);
  }
};

// Whole steps (gradients zeroed, forward, loss, backward, norm, clipping, update) on random ids,
// from the recipe's initial weights. Summary: `ms_per_step`, `processor_ms_per_step` (of all
// threads), `tokens_per_second`, `effective_gflops` (6 per weight and token, without the input
// embedding, and the attention's scores), `peak_bytes` (of the process), `loss` (of the first step,
// per target), `phases` {part: ms}, `tokens`, `kernels`, `device`. A GPU is waited for at the end
// of every part.
Outcome run_bench_pretrain(const BenchPretrainConfig& config, VerbContext& context);

}  // namespace cresco::verbs
