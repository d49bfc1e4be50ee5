// cresco extract TRAJ --matrix W_U --steps all --out STACK.safetensors
#pragma once

#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ExtractVerbConfig {
  std::string trajectory;
  trajectories::ExtractConfig extract;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory, "a run, or a folder of step<N>/ folders");
    extract.fields(v);
  }
};

Outcome run_extract(const ExtractVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
