// Training and validation windows of a run.
//
// What stands at a place is a function of the recipe's `data`, the files and the place alone: step
// s reads the places s B to s B + B - 1 (B = batch.sequences), however many windows are computed at
// a time and by however many processes. Nothing here changes after open(), so that several threads
// may read.
#pragma once

#include "cresco/corpora/shares.h"
#include "cresco/corpora/windows.h"
#include "cresco/pretrain/recipe.h"

#include <ATen/core/Tensor.h>

#include <memory>

namespace cresco::pretrain {

// One corpus of the training data.
struct TrainingSource {
  std::string name;  // as the recipe has it
  std::shared_ptr<const formats::TokenSource> tokens;
  corpora::Windows training;
  corpora::WindowOrder order;
  std::string split;  // what was held out of it: documents | tokens | blocks, or corpus: nothing
};

struct RunData {
  std::vector<TrainingSource> sources;  // at least one
  corpora::Shares shares;               // which of them stands at which place
  // Held out of each source, in its own order; or another corpus.
  std::vector<corpora::Windows> validation;
  std::shared_ptr<const formats::TokenSource> validation_tokens;  // null when held out
  std::int64_t num_validation_windows = 0;  // as many as can be had in the sources' shares

  // Opens the corpora that the recipe names. A share holds out documents; a corpus of so few that
  // those don't fill a window, or one that does not say where its documents are, gives up its last
  // tokens instead. Error when a corpus holds less than one window or one batch.
  static RunData open(const Recipe& recipe);

  struct Place {
    std::size_t source = 0;
    std::int64_t window = 0;  // of that source's training or validation windows
  };
  Place training_place(std::int64_t place) const;    // any place from 0 on
  Place validation_place(std::int64_t place) const;  // below num_validation_windows

  std::int64_t num_training_windows() const;  // of all sources: an epoch, when there is one
  std::int64_t window_ids() const { return sources.front().training.window_ids(); }
  // Inputs are a window's ids but the last, targets its ids but the first.
  std::int64_t targets_per_window() const { return window_ids() - 1; }

  std::vector<Path> files() const;            // that it was made of, for the manifest
  std::vector<std::string> warnings() const;  // of its sources
};

// The tokenizer beside the corpora; it may not be there. Error when several corpora have different
// ones.
Path tokenizer_path(const DataConfig& data);

// Error when the order is pythia, which reads each window once, and the run would need more.
void require_all_windows(const Recipe& recipe, const RunData& data);

// data_order.json: enough to name the tokens of any step. Hashes the corpora.
Json data_order(const Recipe& recipe, const RunData& data);
// The same with another beginning of the recipe; without where the files are.
Json with_beginning(Json order, const Beginning& begins);
Json without_places(Json order);
// Whether the same windows stand at the same places of the training data.
bool same_training_data(const Json& order, const Json& other);

// The windows at `count` places from `first` on, as int64 (count, window_ids()). Error with window,
// document and position for an id that the model's vocabulary does not have.
at::Tensor read_batch(const RunData& data, std::int64_t first, std::int64_t count,
                      std::int64_t vocab_size);
at::Tensor read_validation(const RunData& data, std::int64_t first, std::int64_t count,
                           std::int64_t vocab_size);

}  // namespace cresco::pretrain
