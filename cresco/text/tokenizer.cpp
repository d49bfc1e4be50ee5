#include "cresco/text/tokenizer.h"

#include "cresco/base/require.h"
#include "cresco/text/detail/escaped.h"
#include "cresco/text/detail/tables.h"
#include "cresco/text/normalize.h"

#include <algorithm>

namespace cresco::text {
namespace {

// Ids may leave gaps, but a file cannot ask for memory by naming one large id.
constexpr std::int64_t kMaxUnusedIds = 1'000'000;

}  // namespace

Tokenizer::Tokenizer(TokenizerParts given, const std::string& where) {
  const auto tables = std::make_shared<Tables>();
  tables->parts = std::move(given);
  TokenizerParts& parts = tables->parts;

  const auto num_entries =
      static_cast<std::int64_t>(parts.vocabulary.size() + parts.added_tokens.size());
  require(num_entries > 0, "{}: the vocabulary is empty", where);
  std::int64_t largest = -1;
  const auto check_id = [&](std::int64_t id, std::string_view token) {
    require(id >= 0, "{}: token '{}' has the negative id {}", where, Escaped{token}, id);
    require(id < num_entries + kMaxUnusedIds, "{}: token '{}' has id {}, with {} tokens in all",
            where, Escaped{token}, id, num_entries);
    largest = std::max(largest, id);
  };
  for (const VocabularyEntry& entry : parts.vocabulary) check_id(entry.id, entry.bytes);
  for (const AddedToken& token : parts.added_tokens) check_id(token.id, token.content);
  tables->bytes_of.resize(largest + 1);

  tables->byte_ids.fill(-1);
  tables->vocabulary_ids.reserve(parts.vocabulary.size());
  for (const VocabularyEntry& entry : parts.vocabulary) {
    std::string_view& bytes = tables->bytes_of[entry.id];
    require(!entry.bytes.empty(), "{}: the token of id {} is empty", where, entry.id);
    require(bytes.data() == nullptr, "{}: tokens '{}' and '{}' have the same id {}", where,
            Escaped{bytes}, Escaped{entry.bytes}, entry.id);
    bytes = entry.bytes;
    require(tables->vocabulary_ids.emplace(entry.bytes, entry.id).second,
            "{}: token '{}' stands twice in the vocabulary", where, Escaped{entry.bytes});
    if (bytes.size() == 1) tables->byte_ids[static_cast<unsigned char>(bytes[0])] = entry.id;
  }

  std::vector<Merge> merges;
  merges.reserve(parts.merges.size());
  std::string both;
  for (const auto& [left, right] : parts.merges) {
    const auto bytes_of = [&](std::int64_t id) {
      require(id >= 0 && id <= largest && tables->bytes_of[id].data() != nullptr,
              "{}: merge {} names id {}, which no token has", where, merges.size(), id);
      return tables->bytes_of[id];
    };
    both = bytes_of(left);
    both += bytes_of(right);
    const auto result = tables->vocabulary_ids.find(both);
    require(result != tables->vocabulary_ids.end(),
            "{}: merge {} makes '{}', which is not in the vocabulary", where, merges.size(),
            Escaped{both});
    merges.push_back({left, right, result->second});
  }
  tables->merges = MergeTable(merges);
  for (std::size_t i = 0; i < merges.size(); ++i)
    require(
        tables->merges.find(merges[i].left, merges[i].right).rank == static_cast<std::int32_t>(i),
        "{}: merge {} ('{}' + '{}') stands there a second time", where, i,
        Escaped{tables->bytes_of[merges[i].left]}, Escaped{tables->bytes_of[merges[i].right]});

  std::vector<AddedToken> raw, normalized;
  std::vector<std::string> raw_patterns, normalized_patterns;
  for (const AddedToken& token : parts.added_tokens) {
    require(!token.content.empty(), "{}: the added token of id {} is empty", where, token.id);
    require(tables->added_ids.emplace(token.content, token.id).second,
            "{}: added token '{}' stands there twice", where, Escaped{token.content});
    // An id of the vocabulary is shared only by an added token that is that very entry.
    std::string_view& bytes = tables->bytes_of[token.id];
    require(bytes.data() == nullptr || bytes == token.content,
            "{}: added token '{}' has id {}, which is that of token '{}'", where,
            Escaped{token.content}, token.id, Escaped{bytes});
    bytes = token.content;
    (token.normalized ? normalized : raw).push_back(token);
    if (token.normalized)
      normalized_patterns.push_back(parts.nfc ? text::nfc(token.content) : token.content);
    else
      raw_patterns.push_back(token.content);
  }
  tables->raw_tokens = AddedTokenMatcher(std::move(raw), raw_patterns);
  tables->normalized_tokens = AddedTokenMatcher(std::move(normalized), normalized_patterns);

  const bool has_all_bytes = std::none_of(tables->byte_ids.begin(), tables->byte_ids.end(),
                                          [](auto id) { return id < 0; });
  tables->keeps_bytes = has_all_bytes && !parts.nfc;
  tables_ = tables;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(tables_->bytes_of.size());
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  require(id >= 0 && id < vocab_size(),
          "token id {} is out of range: the tokenizer has ids 0 to {}", id, vocab_size() - 1);
  const std::string_view bytes = tables_->bytes_of[id];
  require(bytes.data() != nullptr, "token id {} is not used by this tokenizer", id);
  return bytes;
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view bytes) const {
  for (const auto* ids : {&tables_->added_ids, &tables_->vocabulary_ids})
    if (const auto found = ids->find(bytes); found != ids->end()) return found->second;
  return std::nullopt;
}

std::optional<std::int32_t> Tokenizer::end_of_text() const { return token_id(kEndOfText); }

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string out;
  for (const std::int32_t id : ids) out += token_bytes(id);
  return out;
}

bool Tokenizer::keeps_bytes() const { return tables_->keeps_bytes; }

const TokenizerParts& Tokenizer::parts() const { return tables_->parts; }

}  // namespace cresco::text
