// cresco eval DICT --stack STACK: how well a dictionary reconstructs, per snapshot and pooled.
#pragma once

#include "cresco/dictionaries/rows.h"
#include "cresco/verbs/eval_fidelity.h"
#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct EvalConfig {
  std::string dict, stack, heldout, definitions = "ours";
  std::int64_t quality_batch = 0, block_bytes = dictionaries::kBlockBytes;
  bool pca = true, baselines = false;
  std::string trajectory, corpus, tokenizer;
  FidelityConfig fidelity;

  void fields(FieldVisitor& v) {
    v.field("dict", dict, "a dictionary: its .safetensors file, or the folder that holds it");
    v.field("stack", stack,
            "needed: the stack that the dictionary was trained on, or one that has its steps");
    v.field("definitions", definitions,
            "ours | all: also explained variance, L0 and dead features as other programs define "
            "them");
    v.field("quality_batch", quality_batch,
            "of the definitions that average over batches; 0 is the training's batch_size", "rows");
    v.field("block_bytes", block_bytes,
            "memory, beside the dictionary's, for the rows that are worked on together");
    v.field("heldout", heldout, "a stack with further steps, between the trained ones");
    v.field("pca", pca, "with --out or --heldout: also a PCA of the same snapshots, side by side");
    v.field("baselines", baselines,
            "also what linear accounts of the stack explain: PCA by snapshot and of all side by "
            "side, lines between the endpoints");
    v.field("trajectory", trajectory,
            "with --corpus: the models whose readout, W_U, the stack holds");
    v.field("corpus", corpus,
            "prefix of a corpus: how well the models predict it with the reconstructed readout");
    v.field("tokenizer", tokenizer,
            "tokenizer.json, for numbers by kind of token; empty is the trajectory's");
    v.config("fidelity", fidelity, "what of the corpus is read, and at which steps");
  }
};

// Summary: `pooled` {metric id: value}, `snapshots` [{`step`, metric id: value}], `num_rows`,
// `definitions` {`pooled`, `snapshots`: {metric id: one line}}, with --definitions all
// `batch_rows`, with --heldout `heldout` as `snapshots`, with --out `tables`.
Outcome run_eval(const EvalConfig& config, VerbContext& context);

}  // namespace cresco::verbs
