// A snapshot's model, opened from its files.
#pragma once

#include "cresco/models/language_model.h"
#include "cresco/trajectories/snapshot.h"

#include <memory>

namespace cresco::models {

// The family that config.json names, its weights in `dtype`, on `device`. Error for a family that
// is not known, and for tensors that are missing, of another shape or not of floating numbers. A
// tied model's one matrix may stand under either of its names, or under both when they are equal.
std::unique_ptr<LanguageModel> load_model(const trajectories::Snapshot& snapshot,
                                          at::ScalarType dtype = at::kFloat,
                                          at::Device device = at::kCPU);

// Positions that its config gives it, without its weights. Errors as above for the config.
std::int64_t max_context(const trajectories::Snapshot& snapshot);

}  // namespace cresco::models
