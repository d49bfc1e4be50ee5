// A dictionary on snapshots that it was not trained on.
//
// For a step t between the trained t- and t+, with w = (ln(1+t) - ln(1+t-)) / (ln(1+t+) -
// ln(1+t-)), a synthetic head is (1 - w) head(t-) + w head(t+), in W_E, b_E, W_D and b_D. Its rows,
// preprocessed with their own statistics, join those of all trained heads: p is the sum over K + 1
// heads, not rescaled.
#pragma once

#include "cresco/dictionaries/pca.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/rows.h"

#include <functional>
#include <optional>
#include <vector>

namespace cresco::dictionaries {

// The trained neighbours of a step: indices into the trained steps, and w.
struct Neighbours {
  std::int64_t before, after;
  double weight;
};

// Nothing for a step that is itself trained, or that lies outside the trained ones.
std::optional<Neighbours> neighbours_of(std::int64_t step,
                                        const std::vector<std::int64_t>& trained_steps);

// The snapshots of a stack that lie between trained ones.
struct HeldoutSteps {
  std::vector<std::int64_t> snapshots;  // their indices in the stack
  std::vector<Neighbours> near;         // of each
  std::vector<std::int64_t> left_out;   // steps that are trained, or outside the trained ones
};
// Error when there are none, or when the matrices are not of the trained stack's size.
HeldoutSteps heldout_steps(const trajectories::Stack& held_out, const trajectories::Stack& trained,
                           const std::vector<std::int64_t>& trained_steps);

// Explained variances 1 - var(x - r)/var(x) over all numbers of the raw matrix, each variance about
// its own mean; ids in docs/metrics.md.
struct HeldoutQuality {
  std::int64_t step, step_before, step_after;
  double alpha_log;
  double synthetic_head, nearest_head, direct_interpolation, endpoint;
  double pca_at_l0;  // at the rank of the PCA given; NaN without
  double pca_rank50;
  double before, after;                        // the neighbours at their own trained heads
  double before_normalized, after_normalized;  // the same of preprocessed rows
  // By row, double: |x - r| of the synthetic head, nearest head, direct interpolation, endpoint
  // and rank-50 PCA; and |x|.
  at::Tensor residual_norm_5V, row_norm_V;
};

struct HeldoutOptions {
  const TrajectoryPca* at_l0 = nullptr;
  std::uint64_t seed = 0;                       // of the rank-50 PCA's rows and range
  std::function<void(std::int64_t rows)> done;  // called after each block; may throw
};

// Of the heldout_steps of `held_out`, all from one pass over the rows. The pre-activation of the
// trained heads is computed once for them all.
std::vector<HeldoutQuality> measure_heldout(const Dictionary& dictionary, const StackRows& trained,
                                            const trajectories::Stack& held_out,
                                            const HeldoutOptions& options = {});

// The leading `rank` directions of rows that are drawn from all heads, about the mean of those
// rows: a random range of that width after six products with their covariance, (D,R) orthonormal.
// As a low-rank SVD with five power iterations finds it. From each head max(2048, min(5000, V/16))
// rows, or all.
struct RowDirections {
  at::Tensor mean_D, direction_DR;
};
RowDirections row_directions(const Rows& rows, std::int64_t rank, std::uint64_t seed,
                             std::int64_t block_rows);

}  // namespace cresco::dictionaries
