// The part of `cresco eval` that puts reconstructed readouts to a text.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/rows.h"
#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct FidelityConfig {
  std::int64_t windows = 32, context = 0, batch = 2;
  std::string steps = "all";

  void fields(FieldVisitor& v) {
    v.field("windows", windows, "the first so many windows of the corpus");
    v.field("context", context,
            "ids of a window, none overlapping; 0 is 512, or the model's context when that is "
            "shorter",
            "tokens");
    v.field("batch", batch, "windows that go through the model together");
    v.field("steps", steps, "list, range or preset, of the dictionary's steps");
  }
};

// Where the models and the text are.
struct FidelityInputs {
  std::string trajectory, corpus, tokenizer;
};

struct FidelityTables {
  Json steps = Json::array();  // [{"step", id: value}]
  artifacts::Table functional, strata;
  Json facts = Json::object();  // for the manifest
  std::vector<Path> inputs;
};

// UsageError when one of corpus and trajectory is missing, Error when the dictionary is not of W_U.
void check_fidelity(const FidelityConfig& config, const FidelityInputs& inputs,
                    const dictionaries::Dictionary& dictionary, const trajectories::Stack& stack);

struct Cost {
  double flops = 0, bytes = 0;  // bytes beside the dictionary
};
Cost fidelity_cost(const FidelityConfig& config, const FidelityInputs& inputs,
                   const dictionaries::Dictionary& dictionary, const trajectories::Stack& stack,
                   std::int64_t block_bytes);

FidelityTables run_fidelity(const FidelityConfig& config, const FidelityInputs& inputs,
                            const dictionaries::Dictionary& dictionary,
                            const dictionaries::StackRows& rows, VerbContext& context);

}  // namespace cresco::verbs
