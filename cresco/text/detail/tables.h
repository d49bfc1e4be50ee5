// What a Tokenizer holds; shared by the files that build it and that encode with it.
#pragma once

#include "cresco/text/bpe.h"
#include "cresco/text/tokenizer.h"

#include <array>
#include <unordered_map>

namespace cresco::text {

struct Tokenizer::Tables {
  TokenizerParts parts;
  // Views of `parts`, by id; data() is null for an id that is not used.
  std::vector<std::string_view> bytes_of;
  std::unordered_map<std::string_view, std::int32_t> vocabulary_ids, added_ids;
  std::array<std::int32_t, 256> byte_ids;  // -1 where no token is
  MergeTable merges;
  AddedTokenMatcher raw_tokens, normalized_tokens;  // looked for before and after normalising
  bool keeps_bytes = false;
};

}  // namespace cresco::text
