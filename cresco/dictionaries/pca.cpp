#include "cresco/dictionaries/pca.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {
namespace {

// A^T A or A A^T in double, from blocks of rows or of snapshots.
at::Tensor gram_of_columns(const at::Tensor& a_VN) {
  at::Tensor gram = at::zeros({a_VN.size(1), a_VN.size(1)}, a_VN.options().dtype(at::kDouble));
  constexpr std::int64_t kBlock = 2048;
  for (std::int64_t v = 0; v < a_VN.size(0); v += kBlock) {
    const at::Tensor block = a_VN.narrow(0, v, std::min(kBlock, a_VN.size(0) - v)).to(at::kDouble);
    gram.addmm_(block.t(), block);
  }
  return gram;
}

at::Tensor gram_of_rows(const at::Tensor& x_VKD) {
  at::Tensor gram = at::zeros({x_VKD.size(0), x_VKD.size(0)}, x_VKD.options().dtype(at::kDouble));
  for (std::int64_t k = 0; k < x_VKD.size(1); ++k) {
    const at::Tensor block = x_VKD.select(1, k).to(at::kDouble);
    gram.addmm_(block, block.t());
  }
  return gram;
}

}  // namespace

bool pca_is_exact_possible(const at::Tensor& x_VKD) {
  return std::min(x_VKD.size(0), x_VKD.size(1) * x_VKD.size(2)) <= kMaxExactSize;
}

TrajectorySpectrum::TrajectorySpectrum(const at::Tensor& x_VKD) : x_VKD_(x_VKD) {
  require(pca_is_exact_possible(x_VKD),
          "an exact PCA of {} rows of {} numbers is more than {} on both sides", x_VKD.size(0),
          x_VKD.size(1) * x_VKD.size(2), kMaxExactSize);
  rows_ = x_VKD.size(0) < x_VKD.size(1) * x_VKD.size(2);
  const auto [values, vectors] =
      at::linalg_eigh(rows_ ? gram_of_rows(x_VKD) : gram_of_columns(x_VKD.flatten(1)));
  squared_singular_values_ = values.flip(0).clamp_min(0);
  vectors_ = vectors.flip(1);
}

double TrajectorySpectrum::explained_variance(std::int64_t rank) const {
  const double all = squared_singular_values_.sum().item<double>();
  const double first =
      squared_singular_values_.narrow(0, 0, std::min(rank, max_rank())).sum().item<double>();
  return all > 0 ? first / all : 0;
}

TrajectoryPca TrajectorySpectrum::at_rank(std::int64_t rank) const {
  TrajectoryPca pca{.rank = std::min(rank, max_rank()), .scores_VR = {}, .loadings_KRD = {}};
  const at::Tensor first = vectors_.narrow(1, 0, pca.rank).to(at::kFloat);
  const at::Tensor a_VN = x_VKD_.flatten(1);
  // With rows: scores U and loadings U^T A. With columns: loadings V^T and scores A V.
  pca.scores_VR = rows_ ? first : a_VN.mm(first);
  const at::Tensor loadings_RN = rows_ ? first.t().mm(a_VN) : first.t();
  pca.loadings_KRD = loadings_RN.reshape({pca.rank, x_VKD_.size(1), x_VKD_.size(2)})
                         .permute({1, 0, 2})
                         .contiguous();
  return pca;
}

}  // namespace cresco::dictionaries
