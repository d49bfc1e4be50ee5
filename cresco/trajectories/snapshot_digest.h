// What lint keeps of a snapshot after one pass over its bytes: hashes, sums, and a sample of the
// weights at fixed places, from which distances between any two snapshots follow.
#pragma once

#include "cresco/trajectories/trajectory.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

// A sample holds one number of each of so many equal parts of a tensor, or all of a smaller
// one. It stands at the same places in every tensor of that size, so samples can be subtracted.
inline constexpr std::int64_t kSampleSize = 2048;

struct TensorDigest {
  std::vector<std::int64_t> shape;
  formats::DType dtype = formats::DType::F32;
  Path file;           // that it was read from
  std::string sha256;  // of its bytes, row-major
  std::int64_t num_elements = 0;
  // Of F64, F32, F16 and BF16; other types have a hash only.
  bool is_real = false;
  std::int64_t not_finite = 0;
  double sum_squares = 0;     // exact, of the finite numbers, in double
  std::vector<float> sample;  // zero where a number is not finite
};

struct SnapshotDigest {
  std::int64_t step = 0;
  std::string error;  // why it could not be read; then the rest is empty or what was read before
  Json config;
  std::vector<std::string> foreign_objects;
  std::map<std::string, TensorDigest> tensors;  // by canonical name
  std::string sha256;                           // of names and hashes of all its tensors
  std::int64_t num_bytes = 0;                   // of the tensors

  bool is_readable() const { return error.empty(); }
};

TensorDigest digest_of(const formats::StoredTensor& tensor);

// One piece of one tensor is in memory, and the samples. Never throws for what is wrong with the
// files: that is the digest's `error`.
SnapshotDigest digest_of(const Trajectory& trajectory, std::int64_t step);

}  // namespace cresco::trajectories
