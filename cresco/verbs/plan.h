// cresco plan STACK, or --shape V,K,d: what a training would cost, before it is run.
#pragma once

#include "cresco/verbs/train.h"

namespace cresco::verbs {

struct PlanConfig : TrainConfig {
  std::vector<double> shape;
  double gflops = 0, gpu_memory = 0;

  void fields(FieldVisitor& v) {
    TrainConfig::fields(v);
    v.field("shape", shape,
            "V,K,d: rows, snapshots and width of a stack that is not here; instead of STACK");
    v.field(
        "gflops", gflops,
        "with --shape: the machine's speed at large float products; 0: this machine's, measured",
        "GFLOP/s");
    v.field("gpu_memory", gpu_memory,
            "with --shape, --device cuda and --gflops: what is free on a GPU that is not here; 0: "
            "ask the one that is",
            "GB");
  }
};

// Takes the options of `train`. Summary: `trainings`, `steps`, `flops`, `memory_bytes` with
// `parameter_bytes`, `resident_bytes` and `work_bytes`, `available_bytes` (not with --gpu-memory),
// `fits`, `disk_bytes` with `state_bytes` and `dictionary_bytes`, on a GPU `gpu_bytes` and
// `gpu_available_bytes`, `seconds_low`, `seconds`, `seconds_high`, `time_from`; and from a stack
// `load_seconds` and `timings`, those of the first training. Error when it does not fit and there
// is a stack; with --shape it is said instead, with `ranks`, `rank_bytes` and `rank_gpu_bytes`.
Outcome run_plan(const PlanConfig& config, VerbContext& context);

}  // namespace cresco::verbs
