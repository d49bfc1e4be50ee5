// cresco show ANY
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ShowConfig {
  std::string path;
  void fields(FieldVisitor& v) {
    v.field("path", path,
            "a run, trajectory, snapshot, stack, dictionary, corpus, tokenizer, table folder or "
            "tensor file");
  }
};

Outcome run_show(const ShowConfig& config, VerbContext& context);

}  // namespace cresco::verbs
