#include "cresco/dictionaries/pca.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::dictionaries {
namespace {

// A^T A or A A^T in double, from blocks of rows or of snapshots.
at::Tensor gram_of_columns(const Rows& rows, std::int64_t block) {
  const std::int64_t columns = rows.num_heads * rows.width;
  at::Tensor gram = at::zeros({columns, columns}, at::kDouble);
  rows.for_blocks(block, [&](std::int64_t first, std::int64_t count) {
    const at::Tensor a_BN = rows.read(first, count).flatten(1).to(at::kDouble);
    gram.addmm_(a_BN.t(), a_BN);
  });
  return gram;
}

at::Tensor gram_of_rows(const Rows& rows) {
  at::Tensor gram = at::zeros({rows.num_rows, rows.num_rows}, at::kDouble);
  for (std::int64_t k = 0; k < rows.num_heads; ++k) {
    const at::Tensor x_VD = rows.read_head(k, 0, rows.num_rows).to(at::kDouble);
    gram.addmm_(x_VD, x_VD.t());
  }
  return gram;
}

}  // namespace

bool pca_is_exact_possible(const Rows& rows) {
  return std::min(rows.num_rows, rows.num_heads * rows.width) <= kMaxExactSize;
}

TrajectorySpectrum::TrajectorySpectrum(Rows rows, std::int64_t block_bytes)
    : rows_(std::move(rows)),
      block_(rows_of_block(block_bytes, 12 * rows_.num_heads * rows_.width)),
      of_rows_(rows_.num_rows < rows_.num_heads * rows_.width) {
  require(pca_is_exact_possible(rows_),
          "an exact PCA of {} rows of {} numbers is more than {} on both sides", rows_.num_rows,
          rows_.num_heads * rows_.width, kMaxExactSize);
  const auto [values, vectors] =
      at::linalg_eigh(of_rows_ ? gram_of_rows(rows_) : gram_of_columns(rows_, block_));
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
  // With rows: scores U and loadings U^T A. With columns: loadings V^T and scores A V.
  if (of_rows_) {
    pca.scores_VR = first;
    std::vector<at::Tensor> loadings;
    for (std::int64_t k = 0; k < rows_.num_heads; ++k)
      loadings.push_back(first.t().mm(rows_.read_head(k, 0, rows_.num_rows)));
    pca.loadings_KRD = at::stack(loadings);
  } else {
    std::vector<at::Tensor> scores;
    rows_.for_blocks(block_, [&](std::int64_t v, std::int64_t count) {
      scores.push_back(rows_.read(v, count).flatten(1).mm(first));
    });
    pca.scores_VR = at::cat(scores);
    pca.loadings_KRD =
        first.t().reshape({pca.rank, rows_.num_heads, rows_.width}).permute({1, 0, 2}).contiguous();
  }
  return pca;
}

}  // namespace cresco::dictionaries
