// What the benchmarks measure with.
#pragma once

#include "cresco/kernels/bf16_product.h"
#include "cresco/kernels/isa.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace cresco::verbs {

inline double median(std::vector<double> values) {  // of an even number, the upper middle one
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What a training on this device computes with.
inline std::string kernels_used(bool on_gpu, bool in_bf16) {
  if (on_gpu) return "cuda";
  return std::string(kernels::cpu_kernels()) + (in_bf16 && kernels::has_amx() ? ", amx" : "");
}

// The largest memory that this process has had.
inline std::int64_t peak_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

// What all its threads have computed.
inline double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace cresco::verbs
