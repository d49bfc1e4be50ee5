// cresco bench ...: what this machine does, beside its own limit in the same run.
#pragma once

#include "cresco/verbs/verb.h"

namespace cresco::verbs {

struct BenchExtractConfig {
  std::string file, tensor;
  std::int64_t repeats = 9;

  void fields(FieldVisitor& v) {
    v.field("file", file, "a file of weights: safetensors, PyTorch's or llm.c's");
    v.field("tensor", tensor, "the tensor to read");
    v.field("repeats", repeats, "how often; medians are given");
  }
};

Outcome run_bench_extract(const BenchExtractConfig& config, VerbContext& context);

}  // namespace cresco::verbs
