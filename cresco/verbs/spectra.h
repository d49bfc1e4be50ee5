// cresco spectra TRAJ_OR_STACK --weights --out DIR: singular values of a matrix over training.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct SpectraConfig {
  std::string input, matrix = "W_U", steps = "all";
  bool weights = false;

  void fields(FieldVisitor& v) {
    v.field("input", input, "a stack, a run, or a folder of step<N>/ folders");
    v.field("weights", weights, "spectra of the weight matrices themselves");
    v.field("matrix", matrix, "of a trajectory: W_U, W_E or a tensor's name; a stack has its own");
    v.field("steps", steps, "of a trajectory: list, range or preset");
  }
};

// Summary: `weights` [{`step`, `matrix`, metric id: value}], with --out `tables`.
Outcome run_spectra(const SpectraConfig& config, VerbContext& context);

}  // namespace cresco::verbs
