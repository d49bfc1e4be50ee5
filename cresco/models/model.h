// A snapshot's model, opened from its files.
#pragma once

#include "cresco/models/neox.h"
#include "cresco/trajectories/snapshot.h"

namespace cresco::models {

// The weights in `dtype`, on `device`. Error for a family that has no forward pass here.
Neox load_model(const trajectories::Snapshot& snapshot, at::ScalarType dtype = at::kFloat,
                at::Device device = at::kCPU);

}  // namespace cresco::models
