// PCA of all snapshots side by side: the best linear account of the same rows at a given rank.
//
// The matrix is A = [X_1 | ... | X_K], (V, K D), each X_k centred. As A = Z P, row v has one score
// vector Z[v] for all snapshots and snapshot k the loadings P_k, its D columns of P.
#pragma once

#include "cresco/dictionaries/rows.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace cresco::dictionaries {

struct TrajectoryPca {
  std::int64_t rank = 0;
  at::Tensor scores_VR;     // float
  at::Tensor loadings_KRD;  // float
};

// Singular values squared of A in descending order (double), exact, by the smaller of its two Gram
// matrices. Error when that has more than kMaxExactSize rows.
inline constexpr std::int64_t kMaxExactSize = 4096;
bool pca_is_exact_possible(const Rows& rows);

class TrajectorySpectrum {
 public:
  // Of centred rows, which are read block by block, and once more by at_rank.
  explicit TrajectorySpectrum(Rows rows, std::int64_t block_bytes = kBlockBytes);
  // Sum of the first `rank` squared singular values by the sum of all.
  double explained_variance(std::int64_t rank) const;
  std::int64_t max_rank() const { return squared_singular_values_.size(0); }
  TrajectoryPca at_rank(std::int64_t rank) const;

 private:
  Rows rows_;
  std::int64_t block_;                            // rows
  at::Tensor squared_singular_values_, vectors_;  // eigenvectors of the Gram matrix, as columns
  bool of_rows_ = false;                          // of A A^T rather than A^T A
};

}  // namespace cresco::dictionaries
