#include "cresco/verbs/vocabulary.h"

#include "cresco/base/require.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/pretrain/data.h"
#include "cresco/text/tokenizer.h"

namespace cresco::verbs {

Vocabulary resolve_vocabulary(pretrain::Recipe& recipe) {
  // A corpus that is not there is not a matter of its tokenizer.
  const std::int64_t row_tokens =
      recipe.data.window == "row2049" ? recipe.data.sequence_length + 1 : 0;
  for (const pretrain::MixturePart& part : recipe.data.sources())
    corpora::open_tokens(part.prefix, row_tokens);
  Vocabulary found{.tokenizer = pretrain::tokenizer_path(recipe.data)};
  std::int64_t& vocab_size = recipe.model.vocab_size();
  if (!std::filesystem::exists(found.tokenizer)) {
    require_usage(vocab_size != 0,
                  "{}: is not there to say how many tokens there are: model.vocab_size is needed",
                  found.tokenizer.string());
    return found;
  }
  const text::Tokenizer tokenizer = text::read_tokenizer(found.tokenizer);
  found.end_of_text = tokenizer.end_of_text();
  if (vocab_size == 0) vocab_size = tokenizer.vocab_size();
  require(tokenizer.vocab_size() <= vocab_size,
          "{}: the tokenizer has {} tokens, more than model.vocab_size {}",
          found.tokenizer.string(), tokenizer.vocab_size(), vocab_size);
  return found;
}

}  // namespace cresco::verbs
