// cresco tokenizer train | encode | decode | show
#pragma once

#include "cresco/text/bpe_trainer.h"
#include "cresco/verbs/verb.h"

namespace cresco::verbs {

// FILE... --vocab-size N --out T.json
struct TokenizerTrainConfig {
  std::vector<std::string> files;
  text::TrainerConfig trainer;

  void fields(FieldVisitor& v) {
    v.field("files", files, "text: a file is a document, a line of a .jsonl file is one");
    trainer.fields(v);
  }
};

// --tokenizer T.json FILE|- [--out IDS.npy]
struct TokenizerEncodeConfig {
  std::string file = "-";
  std::string tokenizer;
  bool parse_special = true;

  void fields(FieldVisitor& v) {
    v.field("file", file, "text, taken as one document; - is standard input");
    v.field("tokenizer", tokenizer, "tokenizer.json");
    v.field("parse_special", parse_special,
            "find special tokens such as <|endoftext|> in the text");
  }
};

// --tokenizer T.json IDS.npy|- [--out FILE]
struct TokenizerDecodeConfig {
  std::string file = "-";
  std::string tokenizer;

  void fields(FieldVisitor& v) {
    v.field("file", file, "ids: a .npy file, or numbers as text; - is standard input");
    v.field("tokenizer", tokenizer, "tokenizer.json");
  }
};

struct TokenizerShowConfig {
  std::string tokenizer;
  std::int64_t longest = 12;

  void fields(FieldVisitor& v) {
    v.field("tokenizer", tokenizer, "tokenizer.json");
    v.field("longest", longest, "how many of the longest tokens to show", "tokens");
  }
};

Outcome run_tokenizer_train(const TokenizerTrainConfig& config, VerbContext& context);
Outcome run_tokenizer_encode(const TokenizerEncodeConfig& config, VerbContext& context);
Outcome run_tokenizer_decode(const TokenizerDecodeConfig& config, VerbContext& context);
Outcome run_tokenizer_show(const TokenizerShowConfig& config, VerbContext& context);

}  // namespace cresco::verbs
