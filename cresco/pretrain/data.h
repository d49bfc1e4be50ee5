// Training and validation windows of a run.
#pragma once

#include "cresco/corpora/windows.h"
#include "cresco/pretrain/recipe.h"

#include <ATen/core/Tensor.h>

#include <memory>

namespace cresco::pretrain {

struct RunData {
  corpora::Windows training, validation;
  corpora::WindowOrder order;
  std::string corpus_sha256;      // of the training corpus's .bin and .idx
  std::string validation_sha256;  // of the validation corpus's, "" when documents are held out
  std::string split;              // what was held out: documents | tokens | corpus

  // Splits by document; a corpus of so few that those held out don't fill a window gives up its
  // last tokens instead. `validation_file` is another corpus, or null when recipe.data.validation
  // is a share. Error when a corpus holds less than one window.
  static RunData open(const Recipe& recipe, std::shared_ptr<const formats::TokenFile> training_file,
                      std::shared_ptr<const formats::TokenFile> validation_file);
};

// Whether `data.validation` is a share of documents and not a corpus.
bool is_share(const std::string& validation);

// data_order.json: enough to name the tokens of any step.
Json data_order(const Recipe& recipe, const RunData& data);

// `count` windows at places first, first+1, ... of the order, as int64 (count, T + 1). Error with
// document position for an id that the model's vocabulary does not have.
at::Tensor read_batch(const RunData& data, std::int64_t first, std::int64_t count,
                      std::int64_t vocab_size);
at::Tensor read_validation(const RunData& data, std::int64_t first, std::int64_t count,
                           std::int64_t vocab_size);

}  // namespace cresco::pretrain
