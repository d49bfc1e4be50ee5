// cresco spectra TRAJ_OR_STACK... --weights --out DIR: singular values of a matrix over training;
// of trajectories the geometry of their readouts, beside each other where there are several.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct SpectraConfig {
  std::vector<std::string> inputs;
  std::string matrix = "W_U", steps = "all";
  bool weights = false;

  void fields(FieldVisitor& v) {
    v.field("inputs", inputs,
            "a stack, or trajectories: runs, folders of step<N>/ folders; of several only the "
            "geometry of their readouts");
    v.field("weights", weights, "spectra of the weight matrices themselves");
    v.field("matrix", matrix, "of a trajectory: W_U, W_E or a tensor's name; a stack has its own");
    v.field("steps", steps, "of a trajectory: list, range or preset");
  }
};

// Summary: `weights` [{`step`, `matrix`, metric id: value}] of one input; `readout`, the rows of
// readout_geometry.csv, of trajectories of whole models; `differences` of several; with --out
// `tables`.
Outcome run_spectra(const SpectraConfig& config, VerbContext& context);

}  // namespace cresco::verbs
