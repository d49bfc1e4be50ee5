#include "cresco/text/bpe_trainer.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/require.h"
#include "cresco/base/threads.h"
#include "cresco/text/byte_alphabet.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

namespace cresco::text {
namespace {

constexpr std::int32_t kFirstByteId = 1, kFirstMergeId = 257;
constexpr std::size_t kBatchBytes = std::size_t{32} << 20;
constexpr std::size_t kTaskBytes = std::size_t{1} << 20;

// How often each piece occurs; the first kind views text that the caller keeps.
using Counts = std::unordered_map<std::string_view, std::int64_t>;

struct HashBytes {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};
using OwnedCounts = std::unordered_map<std::string, std::int64_t, HashBytes, std::equal_to<>>;

// A place near `wanted` where a piece begins whatever stands before it: a space behind an ASCII
// letter.
std::size_t safe_cut(std::string_view text, std::size_t wanted) {
  for (std::size_t i = wanted; i + 1 < text.size(); ++i) {
    const char c = static_cast<char>(text[i] | 0x20);
    if (c >= 'a' && c <= 'z' && text[i + 1] == ' ') return i + 1;
  }
  return text.size();
}

void count_pieces(std::string_view text, Counts& counts) {
  while (!text.empty()) {
    const std::size_t marker = text.find(kEndOfText);
    const std::string_view part = text.substr(0, marker);
    for (std::size_t begin = 0; begin < part.size();) {
      const std::size_t end = piece_end(Split::Gpt2, part, begin);
      ++counts[part.substr(begin, end - begin)];
      begin = end;
    }
    text.remove_prefix(marker == std::string_view::npos ? text.size() : marker + kEndOfText.size());
  }
}

void add_batch(const std::vector<std::string>& documents, OwnedCounts& total) {
  std::vector<std::string_view> tasks;
  for (std::string_view rest : documents)
    while (!rest.empty()) {
      const std::size_t size = rest.size() <= kTaskBytes ? rest.size() : safe_cut(rest, kTaskBytes);
      tasks.push_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
  std::vector<Counts> counts(tasks.size());
  parallel_for(static_cast<std::int64_t>(tasks.size()),
               [&](std::int64_t i) { count_pieces(tasks[i], counts[i]); });
  for (const Counts& part : counts)
    for (const auto& [piece, count] : part) {
      const auto found = total.find(piece);
      if (found == total.end())
        total.emplace(piece, count);
      else
        found->second += count;
    }
}

struct CountedPiece {
  std::string bytes;
  std::int64_t count;
};

std::vector<CountedPiece> count_documents(const DocumentSource& next_document, Progress& progress) {
  OwnedCounts total;
  std::vector<std::string> batch;
  std::size_t batch_bytes = 0;
  std::int64_t done_bytes = 0;
  progress.begin("count", 0, "byte");
  const auto flush = [&] {
    add_batch(batch, total);
    done_bytes += static_cast<std::int64_t>(batch_bytes);
    progress.update(done_bytes, "");
    batch.clear();
    batch_bytes = 0;
  };
  for (std::string document; next_document(document); document.clear()) {
    batch_bytes += document.size();
    batch.push_back(std::move(document));
    if (batch_bytes >= kBatchBytes) flush();
  }
  flush();
  progress.end();

  std::vector<CountedPiece> pieces;
  pieces.reserve(total.size());
  for (auto& [bytes, count] : total) pieces.push_back({bytes, count});
  std::sort(pieces.begin(), pieces.end(),
            [](const CountedPiece& a, const CountedPiece& b) { return a.bytes < b.bytes; });
  return pieces;
}

using Pair = std::pair<std::int32_t, std::int32_t>;

struct HashPair {
  std::size_t operator()(const Pair& pair) const {
    const auto both = static_cast<std::uint64_t>(static_cast<std::uint32_t>(pair.first)) << 32 |
                      static_cast<std::uint32_t>(pair.second);
    return (both * 0x9E3779B97F4A7C15u) >> 20;
  }
};

// The pieces as they are merged, and how often each pair of neighbours occurs in them.
class Merging {
 public:
  explicit Merging(const std::vector<CountedPiece>& pieces) {
    std::array<std::int32_t, 256> id_of_byte;
    for (std::size_t i = 0; i < 256; ++i)
      id_of_byte[bytes_in_alphabet_order()[i]] = kFirstByteId + static_cast<std::int32_t>(i);
    words_.reserve(pieces.size());
    for (const CountedPiece& piece : pieces) {
      if (piece.bytes.size() < 2) continue;  // nothing to merge
      const auto word = static_cast<std::uint32_t>(words_.size());
      words_.push_back({{}, piece.count});
      for (const char byte : piece.bytes)
        words_.back().symbols.push_back(id_of_byte[static_cast<unsigned char>(byte)]);
      const auto& symbols = words_.back().symbols;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        change({symbols[i], symbols[i + 1]}, piece.count, word);
    }
    push_changed();
  }

  // The pair to merge next with its count; count 0 when nothing is left.
  std::pair<Pair, std::int64_t> best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      const auto found = pairs_.find(top.pair);
      if (found != pairs_.end() && found->second.count == top.count) return {top.pair, top.count};
      queue_.pop();  // out of date: whatever changed was pushed again
    }
    return {{}, 0};
  }

  void merge(const Pair& pair, std::int32_t result) {
    const std::vector<std::uint32_t> words = std::move(pairs_.at(pair).words);
    for (const std::uint32_t word : words) merge_in(word, pair, result);
    push_changed();
  }

 private:
  struct Word {
    std::vector<std::int32_t> symbols;
    std::int64_t count;
  };
  struct PairInfo {
    std::int64_t count = 0;
    bool changed = false;
    std::vector<std::uint32_t> words;  // those that may hold it, some more than once
  };
  struct Candidate {
    std::int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {  // what is greater comes first
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void change(const Pair& pair, std::int64_t by, std::uint32_t word) {
    PairInfo& info = pairs_[pair];
    info.count += by;
    if (by > 0 && (info.words.empty() || info.words.back() != word)) info.words.push_back(word);
    if (!info.changed) changed_.push_back(pair);
    info.changed = true;
  }

  void push_changed() {
    for (const Pair& pair : changed_) {
      PairInfo& info = pairs_.at(pair);
      info.changed = false;
      if (info.count > 0)
        queue_.push({info.count, pair});
      else
        pairs_.erase(pair);
    }
    changed_.clear();
  }

  // Takes the counts of all pairs that touch a merge away, and puts those of the result there.
  void merge_in(std::uint32_t index, const Pair& pair, std::int32_t result) {
    auto& [symbols, count] = words_[index];
    merged_.clear();
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool here = i + 1 < symbols.size() && Pair(symbols[i], symbols[i + 1]) == pair;
      merged_.push_back({here ? result : symbols[i], here});
      if (!here) continue;
      // The pair to the right is counted as the left one of the next merge, when there is one.
      if (i > 0 && !last_was_merge(merged_)) change({symbols[i - 1], symbols[i]}, -count, index);
      change(pair, -count, index);
      if (i + 2 < symbols.size()) change({symbols[i + 1], symbols[i + 2]}, -count, index);
      ++i;
    }
    if (merged_.size() == symbols.size()) return;

    symbols.clear();
    for (std::size_t i = 0; i < merged_.size(); ++i) {
      symbols.push_back(merged_[i].id);
      if (i > 0 && (merged_[i - 1].is_new || merged_[i].is_new))
        change({merged_[i - 1].id, merged_[i].id}, count, index);
    }
  }

  struct Symbol {
    std::int32_t id;
    bool is_new;
  };
  static bool last_was_merge(const std::vector<Symbol>& merged) {
    return merged.size() > 1 && merged[merged.size() - 2].is_new;
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, PairInfo, HashPair> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> changed_;
  std::vector<Symbol> merged_;  // scratch
};

TokenizerParts initial_parts() {
  TokenizerParts parts;
  parts.added_tokens.push_back(
      {.id = 0, .content = std::string(kEndOfText), .normalized = false, .special = true});
  parts.vocabulary.push_back({std::string(kEndOfText), 0});
  for (const std::uint8_t byte : bytes_in_alphabet_order())
    parts.vocabulary.push_back({std::string(1, static_cast<char>(byte)),
                                static_cast<std::int32_t>(parts.vocabulary.size())});
  return parts;
}

}  // namespace

Tokenizer train_bpe(const DocumentSource& next_document, const TrainerConfig& config,
                    Progress& progress) {
  require_usage(config.vocab_size >= kFirstMergeId,
                "vocab_size is {}: <|endoftext|> and the 256 bytes alone are {}", config.vocab_size,
                kFirstMergeId);
  require_usage(config.vocab_size <= 10'000'000,
                "vocab_size is {}: the largest possible is 10000000", config.vocab_size);
  require_usage(config.min_frequency >= 1, "min_frequency is {}, it has to be 1 or more",
                config.min_frequency);
  const std::vector<CountedPiece> pieces = count_documents(next_document, progress);
  require(!pieces.empty(), "the text to train a tokenizer on is empty");

  TokenizerParts parts = initial_parts();
  std::unordered_map<std::string, std::int32_t> id_of;
  for (const VocabularyEntry& entry : parts.vocabulary) id_of.emplace(entry.bytes, entry.id);
  std::unordered_set<Pair, HashPair> known;
  Merging merging(pieces);
  progress.begin("merge", config.vocab_size, "token");
  while (static_cast<std::int64_t>(parts.vocabulary.size()) < config.vocab_size) {
    const auto [pair, count] = merging.best();
    require(
        count >= config.min_frequency,
        "a vocabulary of {} was asked for, but the text supports only {}: no further pair occurs "
        "{} times; ask for at most {}, or give more text",
        config.vocab_size, parts.vocabulary.size(), config.min_frequency, parts.vocabulary.size());
    // Two pairs may make the same token: then it keeps its id, and both merges stand. A pair may
    // also come up again, when another merge has made one of its tokens anew.
    const std::string bytes =
        parts.vocabulary[pair.first].bytes + parts.vocabulary[pair.second].bytes;
    const auto [entry, is_new] =
        id_of.emplace(bytes, static_cast<std::int32_t>(parts.vocabulary.size()));
    if (is_new) parts.vocabulary.push_back({bytes, entry->second});
    if (known.insert(pair).second) parts.merges.push_back(pair);
    merging.merge(pair, entry->second);
    if (parts.vocabulary.size() % 64 == 0) {
      progress.update(static_cast<std::int64_t>(parts.vocabulary.size()), "");
      if (interrupted())
        throw Interrupted("stopped while training the tokenizer; nothing was written");
    }
  }
  progress.end();
  return Tokenizer(std::move(parts), "the trained tokenizer");
}

Tokenizer train_bpe(std::span<const std::string> documents, const TrainerConfig& config) {
  std::size_t next = 0;
  return train_bpe(
      [&](std::string& document) {
        if (next == documents.size()) return false;
        document = documents[next++];
        return true;
      },
      config);
}

}  // namespace cresco::text
