// cresco logits SNAPSHOT --ids IDS.npy --out LOGITS.npy: the way for other tools to check our
// models.
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct LogitsVerbConfig {
  std::string snapshot, ids;
  std::int64_t batch = 8;

  void fields(FieldVisitor& v) {
    v.field("snapshot", snapshot, "a folder with config.json and model.safetensors");
    v.field("ids", ids, ".npy of whole numbers, (N, T)");
    v.field("batch", batch, "sequences computed at a time");
  }
};

Outcome run_logits(const LogitsVerbConfig& config, VerbContext& context);

}  // namespace cresco::verbs
