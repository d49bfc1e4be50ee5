#include "cresco/spectra/readout_geometry.h"

#include <ATen/ATen.h>

#include <cmath>

namespace cresco::spectra {
namespace {

at::Tensor row_norms(const at::Tensor& matrix_VD) {
  return at::linalg_vector_norm(matrix_VD.to(at::kDouble), 2, at::IntArrayRef{1});
}

}  // namespace

ReadoutGeometry readout_geometry(const at::Tensor& readout_VD, const at::Tensor& s,
                                 const at::Tensor& embedding_VD, const at::Tensor& gain_D) {
  const at::Tensor norms_V = row_norms(readout_VD);
  const double median = norms_V.median().item<double>();  // PyTorch's is the lower one
  const double sum = s.sum().item<double>(), squares = s.square().sum().item<double>(),
               largest = s[0].item<double>();
  ReadoutGeometry g{.rn_mean = norms_V.mean().item<double>(),
                    .rn_std = norms_V.size(0) > 1 ? norms_V.std().item<double>() : 0,
                    .rn_med = median,
                    .rn_max = norms_V.max().item<double>(),
                    .rn_tail_frac = norms_V.gt(1.5 * median).to(at::kDouble).mean().item<double>(),
                    .s1 = largest,
                    .s2v = s.size(0) > 1 ? s[1].item<double>() : 0,
                    .we_rn_mean = row_norms(embedding_VD).mean().item<double>(),
                    .lnf_norm = gain_D.to(at::kDouble).norm().item<double>(),
                    .lnf_max = gain_D.max().item<double>()};
  if (sum == 0) return g;
  const at::Tensor share = s / sum;
  g.stable_rank = squares / (largest * largest);
  g.eff_rank = std::exp(-(share * (share + 1e-12).log()).sum().item<double>());
  g.top1_frac = largest * largest / squares;
  return g;
}

}  // namespace cresco::spectra
