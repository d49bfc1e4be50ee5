// The singular values of a weight matrix and what is said of them. Ids and formulas:
// docs/metrics.md.
#pragma once

#include <ATen/core/Tensor.h>

namespace cresco::spectra {

struct WeightSpectrum {
  at::Tensor singular_values;  // double, min(rows, columns) of them, descending
  double frobenius_norm = 0;   // sqrt(sum of sigma^2)
  double spectral_norm = 0;    // the largest
  double stable_rank = 0;      // sum of sigma^2 / largest sigma^2; 0 for a matrix of zeros
  double effective_rank =
      0;  // exp of the entropy of sigma^2 / sum of sigma^2; 0 for a matrix of zeros
};

// By the eigenvalues of the smaller Gram matrix in double: singular values below about 1e-8 of the
// largest are lost in rounding, and come out as such small numbers or 0.
WeightSpectrum weight_spectrum(const at::Tensor& matrix);

}  // namespace cresco::spectra
