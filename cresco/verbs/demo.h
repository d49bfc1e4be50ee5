// cresco demo: the whole chain at small size, from text to a page.
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct DemoConfig {
  bool small = false, synthetic = false;
  std::string until;
  std::vector<std::string> text, prompt;
  std::int64_t vocab_size = 0;

  void fields(FieldVisitor& v) {
    v.field("small", small, "a smaller model on less text: seconds instead of minutes");
    v.field("text", text,
            "your own text files; empty is WordNet and the King James Bible, where installed");
    v.field("synthetic", synthetic, "a synthetic language whose true features are known");
    v.field("until", until,
            "the last stage: text | tokenizer | corpus | pretrain | ...; empty is all of them");
    v.field("prompt", prompt,
            "what the model is asked to continue; empty is the beginning of a document");
    v.field("vocab_size", vocab_size, "of the tokenizer; 0 is 2048, and 512 with --small",
            "tokens");
  }
};

// Writes text/, corpus/, run/, stack.safetensors, heldout.safetensors, dictionary/, quality/,
// lifecycle/, spectra/, continuations/, baselines/ and report.html into --out (default: demo).
Outcome run_demo(const DemoConfig& config, VerbContext& context);

}  // namespace cresco::verbs
