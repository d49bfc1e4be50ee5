// The matrices that a dictionary gives back, one head after the other, from codes that are computed
// once: the encoder has read all heads when it has read a row.
#pragma once

#include "cresco/dictionaries/crosscoder.h"
#include "cresco/dictionaries/rows.h"

#include <vector>

namespace cresco::dictionaries {

class Reconstruction {
 public:
  // Reads every row once. Keeps the pre-activations that open a gate at any head, 12 bytes each.
  Reconstruction(const Crosscoder& crosscoder, const StackRows& rows);

  // r[k] of all rows in the units of the stored matrix: (V,D).
  at::Tensor matrix(std::int64_t k) const;
  std::int64_t num_bytes() const;  // that are kept

 private:
  struct Block {
    std::int64_t num_rows = 0;
    at::Tensor row_N, feature_N, value_N;  // int32, int32, float: what is not 0
  };

  const Crosscoder* crosscoder_;
  const StackRows* rows_;
  std::vector<Block> blocks_;
};

}  // namespace cresco::dictionaries
