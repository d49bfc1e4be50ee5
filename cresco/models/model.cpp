#include "cresco/models/model.h"

#include <ATen/ATen.h>

namespace cresco::models {

Neox load_model(const trajectories::Snapshot& snapshot, at::ScalarType dtype, at::Device device) {
  const families::NeoxConfig config = families::neox_from_json(snapshot.config(), snapshot.where());
  std::vector<tensor::NamedTensor> weights;
  for (const families::TensorSpec& spec : families::neox_tensors(config))
    weights.emplace_back(spec.name, snapshot.read(spec.name).to(device, dtype));
  return Neox(config, std::move(weights));
}

}  // namespace cresco::models
