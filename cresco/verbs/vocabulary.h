// How many tokens a recipe's model knows, where only the tokenizer of its corpus says so.
#pragma once

#include "cresco/pretrain/recipe.h"

#include <optional>

namespace cresco::verbs {

struct Vocabulary {
  Path tokenizer;  // beside the corpora; it may not be there
  std::optional<std::int64_t> end_of_text;
};

// Sets model.vocab_size where it is 0. Error for corpora that are not there, for several tokenizers
// and for one with more tokens than the model; UsageError when nothing says how many there are.
Vocabulary resolve_vocabulary(pretrain::Recipe& recipe);

}  // namespace cresco::verbs
