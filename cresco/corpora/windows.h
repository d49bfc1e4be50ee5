// Fixed windows of tokens, and the order in which training reads them.
#pragma once

#include "cresco/formats/megatron.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cresco::corpora {

// A part of a window that comes from one document.
struct DocumentPiece {
  std::int64_t position = 0;              // in the window
  std::int64_t document = 0, offset = 0;  // where it stands in the token file; 0 is its beginning
  std::int64_t count = 0;                 // ids
};

// Some documents of a token file as one stream, one after the other.
class TokenStream {
 public:
  // Those documents i for which `keep(i)` holds.
  TokenStream(std::shared_ptr<const formats::TokenFile> file,
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

  std::shared_ptr<const formats::TokenFile> file_;
  std::vector<std::int64_t> first_;  // of each kept document, in the file
  std::vector<std::int64_t> begin_;  // and in the stream; one more than documents
};

// Windows of T + 1 ids with stride T: neighbours share one id, so that every token but the first is
// a target once (GPT-NeoX's GPT2Dataset). What does not fill a window at the end is left out.
class Windows {
 public:
  Windows(TokenStream stream, std::int64_t sequence_length);

  std::int64_t size() const { return size_; }
  std::int64_t window_ids() const { return sequence_length_ + 1; }
  void read(std::int64_t index, std::span<std::int32_t> out) const;  // window_ids() of them
  std::vector<DocumentPiece> pieces(std::int64_t index) const;
  const TokenStream& stream() const { return stream_; }

 private:
  TokenStream stream_;
  std::int64_t sequence_length_, size_;
};

// Which window stands at which place: a pure function of (seed, epoch), so that a resumed run reads
// what it would have read. `shuffled` permutes each epoch anew; `sequential` is the corpus's own
// order.
class WindowOrder {
 public:
  WindowOrder(const std::string& name, std::uint64_t seed, std::int64_t num_windows);
  std::int64_t at(std::int64_t position) const;  // position counts on through all epochs

 private:
  bool shuffled_;
  std::uint64_t seed_;
  std::int64_t num_windows_;
  mutable std::int64_t epoch_ = -1;
  mutable std::vector<std::uint32_t> permutation_;  // of `epoch_`
};

// Whether a document is held out, by its own coin: the share of `fraction` of them, whatever their
// order.
bool is_held_out(std::uint64_t seed, std::int64_t document, double fraction);

}  // namespace cresco::corpora
