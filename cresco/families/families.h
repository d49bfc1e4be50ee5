// Model families by their files: config fields, tensor names, aliases and shapes. No forward pass
// here.
#pragma once

#include "cresco/base/fields.h"

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::families {

// A parameter as Hugging Face's files name it.
struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;
};

std::int64_t num_parameters(const std::vector<TensorSpec>& tensors);

// The matrices that a trajectory is read for, and what a family calls them.
struct MatrixNames {
  std::string readout;          // W_U
  std::string input_embedding;  // W_E
};

}  // namespace cresco::families
