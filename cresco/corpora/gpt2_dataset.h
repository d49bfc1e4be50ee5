// The order in which GPT-NeoX reads a corpus, rebuilt from the corpus alone.
//
// GPT-NeoX's GPT2Dataset (v1.0, which trained Pythia) joins the documents of all epochs in one
// random order, cuts the result into windows of S + 1 ids with stride S, and reads the windows in
// another random order. Both come from one numpy generator, seeded once. In the names of the index
// files that it writes:
//   doc_idx      documents 0 ... D-1, E times over, shuffled as a whole
//   sample_idx   where window j begins: (place in doc_idx, offset in that document)
//   shuffle_idx  0 ... m-1, shuffled by the same generator, which goes on where it was
// with T tokens in the corpus, E the fewest epochs for which m = (E T - 1) / S (rounded down) is at
// least the number of samples asked for. Sample k is window shuffle_idx[k].
#pragma once

#include "cresco/corpora/windows.h"
#include "cresco/formats/megatron.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace cresco::corpora {

// How many samples GPT-NeoX asks for: those of the steps and half a percent more, rounded up.
std::int64_t gpt2_samples_wanted(std::int64_t steps, std::int64_t batch_size);

class Gpt2Dataset {
 public:
  // Memory: 4 bytes a document and epoch, 4.25 bytes a window: 1.5 GB for the standard
  // Pile. Error, before any of it is taken, when the corpus is empty or too small or too
  // large for the 32-bit indices.
  Gpt2Dataset(std::shared_ptr<const formats::TokenFile> file, std::int64_t sequence_length,
              std::int64_t samples_wanted, std::int64_t seed);

  std::int64_t num_epochs() const { return num_epochs_; }
  std::int64_t size() const { return static_cast<std::int64_t>(shuffle_idx_.size()); }  // m
  std::int64_t window_ids() const { return sequence_length_ + 1; }

  std::span<const std::int32_t> doc_idx() const { return doc_idx_; }
  std::span<const std::uint32_t> shuffle_idx() const { return shuffle_idx_; }
  struct Begin {
    std::int32_t place = 0, offset = 0;  // in doc_idx, in that document
    bool operator==(const Begin&) const = default;
  };
  // Row j of sample_idx; it has m + 1 rows.
  Begin window_begin(std::int64_t j) const;

  void read(std::int64_t sample, std::span<std::int32_t> out) const;  // window_ids() of them
  std::vector<DocumentPiece> pieces(std::int64_t sample) const;

 private:
  std::int64_t document_size(std::int32_t place) const;
  Begin advance(Begin from) const;  // by S tokens

  std::shared_ptr<const formats::TokenFile> file_;
  std::int64_t sequence_length_, num_epochs_ = 0;
  std::vector<std::int32_t> doc_idx_;
  std::vector<Begin> landmarks_;  // every 32nd window's begin; the others are walked to
  std::vector<std::uint32_t> shuffle_idx_;
};

}  // namespace cresco::corpora
