#include "cresco/spectra/weight_spectra.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::spectra {
namespace {

// W^T W in double, for a matrix with at least as many rows as columns, a block of rows at a time.
at::Tensor gram(const at::Tensor& tall) {
  at::Tensor sum = at::zeros({tall.size(1), tall.size(1)}, tall.options().dtype(at::kDouble));
  constexpr std::int64_t kBlock = 4096;
  for (std::int64_t row = 0; row < tall.size(0); row += kBlock) {
    const at::Tensor block =
        tall.narrow(0, row, std::min(kBlock, tall.size(0) - row)).to(at::kDouble);
    sum.addmm_(block.t(), block);
  }
  return sum;
}

}  // namespace

WeightSpectrum weight_spectrum(const at::Tensor& matrix) {
  const at::Tensor tall = matrix.size(0) >= matrix.size(1) ? matrix : matrix.t();
  const at::Tensor squared = at::linalg_eigvalsh(gram(tall)).flip(0).clamp_min_(0).to(at::kCPU);
  const double total = squared.sum().item<double>(), largest = squared[0].item<double>();
  WeightSpectrum spectrum{.singular_values = squared.sqrt(),
                          .frobenius_norm = std::sqrt(total),
                          .spectral_norm = std::sqrt(largest)};
  if (total == 0) return spectrum;
  const at::Tensor share = squared / total;
  spectrum.stable_rank = total / largest;
  spectrum.effective_rank = std::exp(-at::xlogy(share, share).sum().item<double>());
  return spectrum;
}

}  // namespace cresco::spectra
