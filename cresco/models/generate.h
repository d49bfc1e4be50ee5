// Continuations of a prompt.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/models/language_model.h"

#include <optional>
#include <vector>

namespace cresco::models {

struct GenerateConfig {
  std::int64_t max_new_tokens = 48, top_k = 0;
  double temperature = 0;

  void fields(FieldVisitor& v) {
    v.field("max_new_tokens", max_new_tokens, "the longest continuation", "tokens");
    v.field("temperature", temperature, "0 takes the likeliest token each time (greedy)");
    v.field("top_k", top_k, "sample among that many likeliest tokens; 0 is all");
  }
};

// The new ids, up to and without `stop`. Sampling is keyed by (seed, position): the same seed gives
// the same text. When the context is full its oldest ids are left out.
std::vector<std::int32_t> generate(const LanguageModel& model,
                                   const std::vector<std::int32_t>& prompt,
                                   const GenerateConfig& config, std::uint64_t seed,
                                   std::optional<std::int64_t> stop);

}  // namespace cresco::models
