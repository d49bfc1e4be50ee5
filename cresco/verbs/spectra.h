// cresco spectra STACK --weights --out DIR: singular values of a matrix over training.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct SpectraConfig {
  std::string input;
  bool weights = false;

  void fields(FieldVisitor& v) {
    v.field("input", input, "a stack");
    v.field("weights", weights, "spectra of the weight matrices themselves");
  }
};

// Summary: `weights` [{`step`, `matrix`, metric id: value}], with --out `tables`.
Outcome run_spectra(const SpectraConfig& config, VerbContext& context);

}  // namespace cresco::verbs
