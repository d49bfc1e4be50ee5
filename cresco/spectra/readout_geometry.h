// The shape of a readout: its rows' norms and its singular values. docs/metrics.md has the
// formulas; names are those of the published table of recipe-control arms.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::spectra {

struct ReadoutGeometry {
  // Of the norms of W_U's rows: n - 1 in the deviation, the lower median, the share of rows beyond
  // 1.5 medians.
  double rn_mean = 0, rn_std = 0, rn_med = 0, rn_max = 0, rn_tail_frac = 0;
  // Of the singular values s of W_U, not centred: sum s^2 / s_1^2; exp of the entropy of s / sum s
  // (not of s^2, as in weight_spectra.h); s_1^2 / sum s^2; the two largest.
  double stable_rank = 0, eff_rank = 0, top1_frac = 0, s1 = 0, s2v = 0;
  double we_rn_mean = 0;             // mean norm of W_E's rows
  double lnf_norm = 0, lnf_max = 0;  // of the final norm's gain
};

// W_U and W_E (V, D), the gain (D), in any floating type; `singular_values` of W_U as
// weight_spectrum() has them. All rows count, those beyond the tokenizer, too.
ReadoutGeometry readout_geometry(const at::Tensor& readout_VD, const at::Tensor& singular_values,
                                 const at::Tensor& embedding_VD, const at::Tensor& gain_D);

}  // namespace cresco::spectra
