// cresco score TRAJ --corpus C | --ids IDS.npy: how well every snapshot predicts a text.
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct ScoreConfig {
  std::string trajectory, corpus, ids, steps = "all", dtype = "fp32";
  std::int64_t context = 0, batch = 8, windows = 0;

  void fields(FieldVisitor& v) {
    v.field("trajectory", trajectory, "a trajectory of any layout, or one model's folder");
    v.field("corpus", corpus, "prefix of a corpus: <prefix>.bin and <prefix>.idx");
    v.field("ids", ids, ".npy of whole numbers, (N, T + 1), in place of a corpus");
    v.field("steps", steps, "list, range or preset");
    v.field("context", context,
            "a window reads so many ids and predicts the next ones; 0 is the model's whole context",
            "tokens");
    v.field("batch", batch, "windows that are computed together");
    v.field("windows", windows, "the first so many windows only; 0 is all");
    v.field("dtype", dtype, "fp32 | bf16 | fp16, of the computation");
  }
};

Outcome run_score(const ScoreConfig& config, VerbContext& context);

}  // namespace cresco::verbs
