// cresco bench crosscoder: the time of one training step, by part, beside what the machine's matrix
// product would take.
#pragma once

#include "cresco/verbs/verb.h"

#include <string>
#include <vector>

namespace cresco::verbs {

struct BenchCrosscoderConfig {
  std::vector<double> shape;
  double active = 0;
  std::int64_t train_steps = 100, repeats = 7;
  std::string state, write_state, updated, precision = "fp32";

  void fields(FieldVisitor& v) {
    v.field("shape", shape, "K,d,D,B: snapshots, width, features, rows of a batch");
    v.field("active", active,
            "mean share of the features that fire per row and head: from a trained state, its "
            "thresholds scaled to reach it; 0 is the dense start of a training");
    v.field("train_steps", train_steps, "of the trained state", "steps");
    v.field("repeats", repeats, "how often; medians are given");
    v.field("state", state, "start from this file, which --write-state wrote, instead");
    v.field("write_state", write_state,
            "only write the start: parameters, moments and the batch, for other programs");
    v.field("updated", updated, "write the parameters after the first step");
    v.field("precision", precision, "fp32 | bf16: inputs of the large product; on a GPU also tf32");
  }
};

// Summary: `ms_per_step`, `effective_gflops` (ten FLOPs per row, snapshot, width and feature),
// `rows_per_second`, `l0`, `active`, `peak_bytes`, `phases` {part: ms}, `product_ms` (the machine's
// matrix product of the same size alone, in fp32, on a GPU in the precision given), `gemm_gflops`
// (its rate), `share_of_gemm` (effective_gflops by it), `ratio_to_product`. A GPU is waited for at
// the end of every part; peak_bytes is the memory of this process, not the GPU's.
Outcome run_bench_crosscoder(const BenchCrosscoderConfig& config, VerbContext& context);

}  // namespace cresco::verbs
