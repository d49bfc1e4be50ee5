// Fixed windows of tokens, and the order in which training reads them.
#pragma once

#include "cresco/formats/token_source.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cresco::corpora {

// A part of a window that comes from one document.
struct DocumentPiece {
  std::int64_t position = 0;  // in the window
  // Where it stands in the token file; an offset of 0 is the document's beginning. A file that does
  // not say where its documents are is one document.
  std::int64_t document = 0, offset = 0;
  std::int64_t count = 0;  // ids
};

// Some documents of a token file as one stream, one after the other.
class TokenStream {
 public:
  // Those documents i for which `keep(i)` holds.
  TokenStream(std::shared_ptr<const formats::TokenSource> file,
              const std::function<bool(std::int64_t)>& keep);

  // Tokens [first, last) of the stream, as a stream.
  TokenStream slice(std::int64_t first, std::int64_t last) const;

  std::int64_t num_tokens() const { return begin_.back(); }
  std::int64_t num_documents() const { return static_cast<std::int64_t>(first_.size()); }
  void read(std::int64_t position, std::span<std::int32_t> out) const;
  // Which documents of the file `count` tokens from `position` on come from.
  std::vector<DocumentPiece> pieces(std::int64_t position, std::int64_t count) const;

 private:
  TokenStream() = default;
  // Calls `action(begin in the file, count)` for each stretch of these tokens.
  template <class Action>
  void for_stretches(std::int64_t position, std::int64_t count, const Action& action) const;

  std::shared_ptr<const formats::TokenSource> file_;
  std::vector<std::int64_t> first_;  // of each kept document, in the file
  std::vector<std::int64_t> begin_;  // and in the stream; one more than documents
};

// How a stream is cut into windows; T is the sequence length. What does not fill a window at the
// end is left out.
enum class WindowKind {
  Overlap,  // T + 1 ids, stride T: neighbours share one, so that every token but the first is a
            // target once (GPT-NeoX's GPT2Dataset)
  Block,    // T ids, stride T: T - 1 targets
  Row       // T + 1 ids, stride T + 1: rows that were made so (Pythia's preshuffled data, T = 2048)
};
// Of "overlap", "block", "row2049"; UsageError with the nearest name for another.
WindowKind window_kind_named(const std::string& name);

class Windows {
 public:
  Windows(TokenStream stream, std::int64_t sequence_length, WindowKind kind = WindowKind::Overlap);

  // Windows [first, last) alone, and their part of the stream; up to the last window that is with
  // what fills none.
  Windows slice(std::int64_t first, std::int64_t last) const;

  std::int64_t size() const { return size_; }
  std::int64_t window_ids() const { return window_ids_; }
  void read(std::int64_t index, std::span<std::int32_t> out) const;  // window_ids() of them
  std::vector<DocumentPiece> pieces(std::int64_t index) const;
  const TokenStream& stream() const { return *stream_; }

 private:
  std::int64_t begin(std::int64_t index) const;  // in the stream

  std::shared_ptr<const TokenStream> stream_;
  std::int64_t window_ids_, stride_, size_;
};

// Which window stands at which place: a pure function of (seed, place), so that a resumed run reads
// what it would have read. Place p of n windows belongs to epoch p / n.
//   shuffled    each epoch is a permutation of its own, by our generator
//   sequential  the corpus's own order, again in each epoch
//   pythia      the corpus's own order, once: there is nothing after its last window
//   numpy       each epoch is numpy.random.default_rng(seed + epoch).permutation(n)
class WindowOrder {
 public:
  static const std::vector<std::string>& names();

  // `purpose` keys the permutations of `shuffled`. UsageError for an unknown name.
  WindowOrder(const std::string& name, std::uint64_t seed, std::int64_t num_windows,
              const std::string& purpose = "order");
  std::int64_t at(std::int64_t place) const;  // safe from several threads

 private:
  using Permutation = std::shared_ptr<const std::vector<std::uint32_t>>;
  Permutation permutation_of(std::int64_t epoch) const;

  std::string name_, purpose_;
  std::uint64_t seed_;
  std::int64_t num_windows_;
  struct Cache;  // of the two epochs that were asked for last
  std::shared_ptr<Cache> cache_;
};

// Whether a document is held out, by its own coin: the share of `fraction` of them, whatever their
// order.
bool is_held_out(std::uint64_t seed, std::int64_t document, double fraction);

}  // namespace cresco::corpora
