// How well a model predicts a text: mean cross entropy over windows of tokens.
#pragma once

#include "cresco/corpora/windows.h"
#include "cresco/models/language_model.h"

#include <functional>
#include <optional>
#include <string>

namespace cresco::evals {

// Windows of T + 1 ids: the first T are read, the last T are to be predicted.
struct ScoreWindows {
  std::int64_t count = 0, ids_each = 0;                             // ids_each = T + 1
  std::function<void(std::int64_t, std::span<std::int32_t>)> read;  // window i
  std::string where;                                                // for messages
};

ScoreWindows windows_of_corpus(const Path& prefix, std::int64_t context);
ScoreWindows windows_of_ids(const Path& npy);  // (N, T + 1)

struct Score {
  double loss = 0;              // nats a token, every predicted token with the same weight
  std::int64_t num_tokens = 0;  // that were predicted
  double perplexity() const;    // exp(loss)
};

// `batch` windows go through the model at a time; logits are made for some hundred positions at a
// time, so that (tokens, vocabulary) never stands in memory. Log-softmax in float32, over all rows
// of the vocabulary, padding included; sums in double. Error with window and position for an id
// outside the vocabulary, and for a loss that is not finite. `done` is called after each batch with
// the number of windows so far; it may throw.
Score score(const models::LanguageModel& model, const ScoreWindows& windows, std::int64_t batch,
            const std::function<void(std::int64_t)>& done);

}  // namespace cresco::evals
