// A crosscoder on snapshots that it was not trained on.
//
// For a step t between the trained t- and t+, with w = (ln(1+t) - ln(1+t-)) / (ln(1+t+) -
// ln(1+t-)), a synthetic head is (1 - w) head(t-) + w head(t+), in W_E, b_E, W_D and b_D. Its rows,
// preprocessed with their own statistics, join those of all trained heads: p is the sum over K + 1
// heads, not rescaled.
#pragma once

#include "cresco/dictionaries/pca.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"

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

// Explained variances 1 - var(x - r)/var(x) over all numbers of the raw matrix, each variance about
// its own mean; ids in docs/metrics.md.
struct HeldoutQuality {
  std::int64_t step, step_before, step_after;
  double alpha_log;
  double synthetic_head, nearest_head, direct_interpolation;
  double pca;            // at the rank of `pca` given; NaN without
  double before, after;  // the neighbours at their own trained heads
};

// `matrix_VD` is the held-out snapshot as it is; before and after are the raw neighbours.
HeldoutQuality measure_heldout(const Dictionary& dictionary, const PreprocessedStack& trained,
                               const at::Tensor& matrix_VD, const at::Tensor& before_VD,
                               const at::Tensor& after_VD, std::int64_t step,
                               const TrajectoryPca* pca);

}  // namespace cresco::dictionaries
