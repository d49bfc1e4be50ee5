// cresco extract TRAJ --matrix W_U --steps all --out STACK.safetensors
#pragma once

#include "cresco/trajectories/extract.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ExtractVerbConfig {
  std::string trajectory;
  trajectories::ExtractConfig extract;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory,
            "a run, step<N>/ folders, a hub cache, ... (docs/formats/trajectories.md)");
    extract.fields(v);
  }
};

Outcome run_extract(const ExtractVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
