// spectra RUN... --weights: the readout's shape over training, arm beside arm.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/verbs/verb.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace cresco::verbs {

// One line for each snapshot of each trajectory, in the columns of the published table and `seed`:
//   cond,wu_mult,warmup,step,tokens,rn_mean,...,lnf_max,seed
// `cond` is the run's arm, or its folder's name; wu_mult and warmup are its readout's rate
// multiplier and warm-up steps, empty where the trajectory does not say. Ids: docs/metrics.md.
// `known` are the singular values of readouts that somebody has taken already.
using KnownSpectra = std::map<std::int64_t, at::Tensor>;  // by step
artifacts::Table readout_geometries(const std::vector<std::string>& trajectories,
                                    const std::string& steps, const KnownSpectra& known,
                                    at::Device device, VerbContext& context);

// Of such a table: each arm at its last step beside the first arm. Columns: cond, metric,
// num_seeds (runs of the arm, whichever seed they differ in), mean, seed_spread (largest less
// smallest of them; empty for one), difference (of the means, from the first arm's), spreads
// (|difference| in spreads of the arm that has seeds: the larger of the two). A note says so when
// the runs end at different steps.
artifacts::Table arm_differences(const artifacts::Table& geometries, Progress& progress);

// That table for people: rn_mean, stable_rank and eff_rank of every arm.
std::string arm_differences_text(const artifacts::Table& differences);

// Whether these have what readout_geometries() reads: a trajectory of whole models.
bool has_readout(const std::string& trajectory);

}  // namespace cresco::verbs
