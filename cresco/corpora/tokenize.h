// Text to a corpus: <prefix>.bin, <prefix>.idx and the tokenizer.json beside them.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/progress.h"
#include "cresco/corpora/documents.h"
#include "cresco/text/tokenizer.h"

namespace cresco::corpora {

struct TokenizeConfig {
  bool append_eod = true;

  void fields(FieldVisitor& v) {
    v.field("append_eod", append_eod, "end every document with <|endoftext|>, which is counted");
  }
};

struct TokenizeResult {
  std::int64_t num_documents = 0, num_tokens = 0;
  std::int64_t num_bytes = 0;  // of the text as it came: what bits per byte divides by
  std::int64_t replaced = 0;   // U+FFFD put where the text was not UTF-8
  std::int64_t dropped = 0;    // bytes that the tokenizer has no token for
};

// Streams: a few megabytes of text are in memory at a time, encoded on all threads; the corpus does
// not depend on their number. Error when there is no text, or the tokenizer lacks an end of text
// that is asked for.
TokenizeResult tokenize(Documents& documents, const text::Tokenizer& tokenizer, const Path& prefix,
                        const TokenizeConfig& config, Progress& progress);

// Puts the tokenizer beside an output that belongs to it. Error when another one stands there
// already: what lies in that folder would then read as something else.
void put_tokenizer(const Path& from, const Path& to);

// tokenizer.json in the corpus's folder.
Path corpus_tokenizer_path(const Path& prefix);

}  // namespace cresco::corpora
