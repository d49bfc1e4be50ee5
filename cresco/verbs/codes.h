// cresco codes DICT --rows X.npy --out CODES.npy: what a dictionary makes of rows.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>

namespace cresco::verbs {

struct CodesConfig {
  std::string dict, rows, stack, reconstructions;
  std::int64_t block_rows = 1024;

  void fields(FieldVisitor& v) {
    v.field("dict", dict, "a dictionary: its .safetensors or .pt file, or its folder");
    v.field("rows", rows,
            "an .npy of rows as the dictionary reads them: (rows, K, d), or (rows, d) for one "
            "snapshot");
    v.field("stack", stack, "in place of --rows: a stack, preprocessed as the dictionary's was");
    v.field("reconstructions", reconstructions, "also write the reconstructions to this .npy");
    v.field("block_rows", block_rows, "rows in memory at a time", "rows");
  }
};

// Writes float32: codes (rows, K, D), or (rows, D) when all heads share them; reconstructions of
// the rows' own shape. Summary: `num_rows`, `shape` of the codes, `l0`.
Outcome run_codes(const CodesConfig& config, VerbContext& context);

}  // namespace cresco::verbs
