// cresco generate TRAJ --prompt TEXT
#pragma once

#include "cresco/models/generate.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct GenerateVerbConfig {
  std::string trajectory, steps, tokenizer;
  std::vector<std::string> prompt;
  models::GenerateConfig generate;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory, "a run, or a folder of step<N>/ folders");
    v.field("prompt", prompt, "text to continue; may be given more than once");
    v.field("steps", steps, "which snapshots; empty is five, spread over the run");
    v.field("tokenizer", tokenizer, "tokenizer.json; empty is the trajectory's own");
    generate.fields(v);
  }
};

Outcome run_generate(const GenerateVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
