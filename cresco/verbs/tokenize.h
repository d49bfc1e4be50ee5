// cresco tokenize FILE... --tokenizer T.json --out PREFIX
#pragma once

#include "cresco/corpora/tokenize.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct TokenizeVerbConfig {
  std::vector<std::string> files;
  std::string tokenizer;
  corpora::TokenizeConfig tokenize;

  void fields(FieldVisitor& v) {
    v.field("files", files, "text: a file is a document, a line of a .jsonl file is one");
    v.field("tokenizer", tokenizer, "tokenizer.json");
    tokenize.fields(v);
  }
};

Outcome run_tokenize(const TokenizeVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
