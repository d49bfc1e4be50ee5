#include "cresco/trajectories/lint_distances.h"

#include "cresco/base/threads.h"

#include <algorithm>
#include <cmath>

namespace cresco::trajectories {

double squared_distance(const TensorDigest& a, const TensorDigest& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.sample.size(); ++i) {
    const double difference = static_cast<double>(a.sample[i]) - static_cast<double>(b.sample[i]);
    sum += difference * difference;
  }
  return a.sample.empty()
             ? 0
             : sum * static_cast<double>(a.num_elements) / static_cast<double>(a.sample.size());
}

std::vector<std::string> shared_tensors(const std::vector<const SnapshotDigest*>& snapshots) {
  std::vector<std::string> names;
  if (snapshots.empty()) return names;
  for (const auto& [name, tensor] : snapshots[0]->tensors)
    if (tensor.is_real && std::all_of(snapshots.begin(), snapshots.end(), [&](const auto* other) {
          const auto found = other->tensors.find(name);
          return found != other->tensors.end() && found->second.is_real &&
                 found->second.shape == tensor.shape;
        }))
      names.push_back(name);
  return names;
}

SquaredDistances squared_distances(const std::vector<const SnapshotDigest*>& snapshots,
                                   const std::vector<std::string>& tensors) {
  SquaredDistances distances(snapshots.size());
  parallel_for(static_cast<std::int64_t>(snapshots.size()), [&](std::int64_t row) {
    const auto i = static_cast<std::size_t>(row);
    for (std::size_t j = 0; j < i; ++j) {
      double sum = 0;
      for (const std::string& name : tensors)
        sum += squared_distance(snapshots[i]->tensors.at(name), snapshots[j]->tensors.at(name));
      distances.at(i, j) = distances.at(j, i) = sum;
    }
  });
  return distances;
}

Correlation correlation(const SnapshotDigest& a, const SnapshotDigest& b,
                        const std::vector<std::string>& tensors) {
  double sum = 0, count = 0;
  for (const std::string& name : tensors) {
    const TensorDigest &x = a.tensors.at(name), &y = b.tensors.at(name);
    if (x.shape.size() < 2 || x.sample.size() < 2) continue;
    const auto n = static_cast<double>(x.sample.size());
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    for (std::size_t i = 0; i < x.sample.size(); ++i) {
      mean_x += static_cast<double>(x.sample[i]) / n;
      mean_y += static_cast<double>(y.sample[i]) / n;
    }
    for (std::size_t i = 0; i < x.sample.size(); ++i) {
      const double dx = static_cast<double>(x.sample[i]) - mean_x;
      const double dy = static_cast<double>(y.sample[i]) - mean_y;
      xx += dx * dx;
      yy += dy * dy;
      xy += dx * dy;
    }
    if (!(xx > 0 && yy > 0)) continue;
    sum += n * xy / std::sqrt(xx * yy);
    count += n;
  }
  if (count == 0) return {};
  return {sum / count, 1 / std::sqrt(count)};
}

}  // namespace cresco::trajectories
