// cresco lifecycle DICT --stack STACK --out DIR: which features formed, when, and what they
// promote.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct LifecycleConfig {
  std::string dict, stack, tokenizer;
  std::string token_steps = "five";
  std::int64_t top_tokens = 10, neighbours = 5;
  std::string derived, set_name;
  std::vector<std::string> seeds;
  std::int64_t null_permutations = 10'000;

  void fields(FieldVisitor& v) {
    v.field("dict", dict, "a dictionary: its .safetensors file, or the folder that holds it");
    v.field("stack", stack,
            "needed: the stack that the dictionary was trained on, or one that has its steps");
    v.field("tokenizer", tokenizer,
            "tokenizer.json: also write the tokens that features promote and suppress");
    v.field("token_steps", token_steps,
            "snapshots of those lists: list, range or preset; five: the first, the last, and three "
            "between, one of them where the feature's norm peaks");
    v.field("top_tokens", top_tokens, "length of those lists");
    v.field("neighbours", neighbours, "nearest features to name for each; 0 for none");
    v.field("derived", derived,
            "also write the release's derived arrays (rates, aggregates, lifecycle.npz, ...) below "
            "this folder");
    v.field("seeds", seeds,
            "with --derived: dictionaries of other seeds, for the arrays of all seeds");
    v.field(
        "set_name", set_name,
        "with --derived: what its folders are called by; empty is by matrix, model and size, as "
        "in the release (wu-d8192, wu-1b-d24576)");
    v.field("null_permutations", null_permutations,
            "with --derived: of cusum_null.pt; 0 writes none");
  }
};

// Summary: `num_features`, `alive`, `born`, `died` (counts), `profiles` {profile: count}, `tables`,
// with --derived `derived`, the paths below that folder.
Outcome run_lifecycle(const LifecycleConfig& config, VerbContext& context);

}  // namespace cresco::verbs
