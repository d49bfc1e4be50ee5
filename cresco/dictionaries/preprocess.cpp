#include "cresco/dictionaries/preprocess.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {

SnapshotStatistics snapshot_statistics(const ColumnMoments& moments, const std::string& mode) {
  if (mode == "none") return {};
  SnapshotStatistics statistics{moments.mean_D().to(at::kFloat), 1};
  if (mode == "center") return statistics;
  require_usage(mode == "center_scale",
                "input_preprocess '{}' is not one of none, center, center_scale", mode);
  const double numbers =
      static_cast<double>(moments.count()) * static_cast<double>(moments.mean_D().numel());
  statistics.scale =
      static_cast<float>(std::sqrt(std::max(moments.about_columns() / numbers, 1e-8)));
  return statistics;
}

SnapshotStatistics snapshot_statistics(const at::Tensor& matrix_VD, const std::string& mode) {
  constexpr std::int64_t kPiece = 1 << 12;  // rows that are in memory as doubles
  if (mode == "none") return {};
  ColumnMoments moments;
  for (std::int64_t v = 0; v < matrix_VD.size(0); v += kPiece)
    moments.add(matrix_VD.slice(0, v, v + kPiece));
  return snapshot_statistics(moments, mode);
}

at::Tensor preprocess(const at::Tensor& matrix_VD, const SnapshotStatistics& statistics) {
  if (!statistics.mean_D.defined()) return matrix_VD;
  const at::Tensor centred_VD = matrix_VD - statistics.mean_D;
  return statistics.scale == 1 ? centred_VD : centred_VD / statistics.scale;
}

at::Tensor restore(const at::Tensor& x_VD, const SnapshotStatistics& statistics) {
  if (!statistics.mean_D.defined()) return x_VD;
  return x_VD * statistics.scale + statistics.mean_D;
}

PreprocessedStack preprocess_stack(const trajectories::Stack& stack,
                                   const std::vector<std::int64_t>& indices,
                                   const std::string& mode, at::Device device,
                                   at::ScalarType dtype) {
  const auto K = static_cast<std::int64_t>(indices.size());
  PreprocessedStack out{
      at::empty({stack.num_rows(), K, stack.width()}, at::TensorOptions(dtype).device(device)), {}};
  for (std::int64_t k = 0; k < K; ++k) {
    const at::Tensor matrix_VD = stack.at(indices[static_cast<std::size_t>(k)]);
    out.statistics.push_back(snapshot_statistics(matrix_VD, mode));
    out.x_VKD.select(1, k).copy_(preprocess(matrix_VD, out.statistics.back()));
  }
  return out;
}

}  // namespace cresco::dictionaries
