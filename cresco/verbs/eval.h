// cresco eval DICT --stack STACK: how well a dictionary reconstructs, per snapshot and pooled.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct EvalConfig {
  std::string dict, stack, heldout;
  bool pca = true;

  void fields(FieldVisitor& v) {
    v.field("dict", dict, "a dictionary: its .safetensors file, or the folder that holds it");
    v.field("stack", stack, "the stack that holds the dictionary's steps");
    v.field("heldout", heldout, "a stack with further steps, between the trained ones");
    v.field("pca", pca, "with --out or --heldout: also a PCA of the same snapshots, side by side");
  }
};

// Summary: `pooled` {metric id: value}, `snapshots` [{`step`, metric id: value}], with --heldout
// `heldout` of the same form, with --out `tables`.
Outcome run_eval(const EvalConfig& config, VerbContext& context);

}  // namespace cresco::verbs
