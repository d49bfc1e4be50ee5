// Distances between snapshots from the samples in their digests.
#pragma once

#include "cresco/trajectories/snapshot_digest.h"

#include <string>
#include <vector>

namespace cresco::trajectories {

// Row-major, K x K, squared.
class SquaredDistances {
 public:
  explicit SquaredDistances(std::size_t size) : size_(size), values_(size * size, 0) {}
  double& at(std::size_t i, std::size_t j) { return values_[i * size_ + j]; }
  double at(std::size_t i, std::size_t j) const { return values_[i * size_ + j]; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::vector<double> values_;
};

// Estimate of |a - b|^2 over one tensor of both: the sample's, times what a number of it stands
// for.
double squared_distance(const TensorDigest& a, const TensorDigest& b);

// The tensors that all have in one shape, of a type that can be computed with.
std::vector<std::string> shared_tensors(const std::vector<const SnapshotDigest*>& snapshots);

SquaredDistances squared_distances(const std::vector<const SnapshotDigest*>& snapshots,
                                   const std::vector<std::string>& tensors);

// Correlation of two snapshots' weights: of each matrix about its mean, then the mean over the
// matrices by the size of their samples. Zero up to 1/sqrt(number of samples) for initialisations
// that have nothing to do with each other; norms and biases, which begin alike, are left out.
struct Correlation {
  double value = 0;
  double deviation = 1;  // of an estimate that is 0 in truth
};
Correlation correlation(const SnapshotDigest& a, const SnapshotDigest& b,
                        const std::vector<std::string>& tensors);

}  // namespace cresco::trajectories
