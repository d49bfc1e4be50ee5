// Training a byte-level BPE tokenizer on text.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/progress.h"
#include "cresco/text/tokenizer.h"

#include <functional>

namespace cresco::text {

struct TrainerConfig {
  std::int64_t vocab_size = 4096;
  std::int64_t min_frequency = 2;

  void fields(FieldVisitor& v) {
    v.field("vocab_size", vocab_size, "tokens in all: <|endoftext|>, 256 bytes, and merges",
            "tokens");
    v.field("min_frequency", min_frequency, "how often a pair has to occur to become a token");
  }
};

// Puts the next document into `document`; false when there is none.
using DocumentSource = std::function<bool(std::string& document)>;

// Id 0 is <|endoftext|>, 1 to 256 are the bytes in the order of the byte alphabet, then come the
// merges in the order they were found: each time the pair of neighbours that occurs most often, and
// of equals the one with the smallest left id, then right id. Pieces are those of GPT-2's split,
// any bytes are encoded, and <|endoftext|> in a document is a boundary. The result depends on the
// text alone, not on the number of threads or where documents are cut. UsageError when vocab_size
// cannot hold the bytes; Error when the text does not support so many tokens.
Tokenizer train_bpe(const DocumentSource& next_document, const TrainerConfig& config,
                    Progress& progress = no_progress());
Tokenizer train_bpe(std::span<const std::string> documents, const TrainerConfig& config);

}  // namespace cresco::text
