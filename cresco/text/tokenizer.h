// Byte-level BPE tokenizers: text to ids and back. See docs/formats/tokenizer.md.
//
//   const text::Tokenizer tokenizer = text::read_tokenizer("tokenizer.json");
//   text::Encoder encoder(tokenizer);  // one per thread
//   std::vector<std::int32_t> ids;
//   encoder.encode("Hello", ids);
//
// A token is a string of bytes, and decoding is putting them together: one token may be half a
// character.
#pragma once

#include "cresco/base/files.h"
#include "cresco/text/added_tokens.h"
#include "cresco/text/pretokenize.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::text {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

struct VocabularyEntry {
  std::string bytes;
  std::int32_t id = 0;

  bool operator==(const VocabularyEntry&) const = default;
};

// What a tokenizer consists of.
struct TokenizerParts {
  std::vector<VocabularyEntry> vocabulary;  // of the BPE model; added tokens may stand here too
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  // by rank: ids of left and right
  std::vector<AddedToken> added_tokens;
  bool nfc = false;
  Split split = Split::Gpt2;
  bool add_prefix_space = false;
  bool ignore_merges = false;  // a piece that is a token is taken whole

  bool operator==(const TokenizerParts&) const = default;
};

// Immutable; a copy is a second handle on the same tables, for any thread.
class Tokenizer {
 public:
  // Error, beginning with `where`, when the parts contradict each other.
  Tokenizer(TokenizerParts parts, const std::string& where);

  // Error for what is damaged and for every setting that would be ignored.
  static Tokenizer from_json(std::string_view text, const std::string& where);
  std::string to_json() const;

  std::int64_t vocab_size() const;  // 1 + the largest id
  std::string_view token_bytes(std::int32_t id) const;
  std::optional<std::int32_t> token_id(std::string_view bytes) const;  // added tokens first
  std::optional<std::int32_t> end_of_text() const;
  std::string decode(std::span<const std::int32_t> ids) const;

  // Any bytes are encoded, and come back when they are decoded. Other tokenizers normalise, or lack
  // tokens for some bytes: they read U+FFFD where text is not UTF-8.
  bool keeps_bytes() const;
  const TokenizerParts& parts() const;

 private:
  friend class Encoder;
  struct Tables;
  std::shared_ptr<const Tables> tables_;
};

Tokenizer read_tokenizer(const Path& path);

struct EncodeOptions {
  bool parse_special = true;  // special tokens are found in the text; otherwise they are plain text
};

struct EncodeStats {
  std::int64_t replaced = 0;  // U+FFFD put where the text was not UTF-8
  std::int64_t dropped = 0;   // bytes for which the tokenizer has no token
};

// Encodes with a cache of pieces seen before: 2 MiB, whatever it reads. One per thread.
class Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer, EncodeOptions options = {});
  ~Encoder();
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;

  // Appends the ids of a whole document.
  void encode(std::string_view text, std::vector<std::int32_t>& out, EncodeStats* stats = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cresco::text
