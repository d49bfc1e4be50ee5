// Snapshots are brought to a common origin and size before a dictionary sees them, each by itself:
//   none          x
//   center        x - mu,            mu the mean row
//   center_scale  (x - mu) / s,      s = sqrt(max(mean over rows and columns of (x - mu)^2, 1e-8))
#pragma once

#include "cresco/dictionaries/moments.h"
#include "cresco/trajectories/stack.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace cresco::dictionaries {

struct SnapshotStatistics {
  at::Tensor mean_D;  // undefined with `none`
  double scale = 1;
};

// mu and s are sums in double that are rounded to float once, so that they do not depend on the
// blocks in which a matrix was read.
SnapshotStatistics snapshot_statistics(const ColumnMoments& moments, const std::string& mode);
SnapshotStatistics snapshot_statistics(const at::Tensor& matrix_VD, const std::string& mode);
at::Tensor preprocess(const at::Tensor& matrix_VD, const SnapshotStatistics& statistics);
at::Tensor restore(const at::Tensor& x_VD, const SnapshotStatistics& statistics);  // the inverse

// What a crosscoder reads: row v holds the K preprocessed rows v, so that a batch is one gather.
struct PreprocessedStack {
  at::Tensor x_VKD;
  std::vector<SnapshotStatistics> statistics;  // K
};

// `indices` are those of the stack's snapshots, in the order of the heads.
PreprocessedStack preprocess_stack(const trajectories::Stack& stack,
                                   const std::vector<std::int64_t>& indices,
                                   const std::string& mode, at::Device device,
                                   at::ScalarType dtype = at::kFloat);

}  // namespace cresco::dictionaries
