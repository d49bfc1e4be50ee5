// One matrix of a snapshot by its mathematical or its file's name, read in pieces of rows.
#pragma once

#include "cresco/trajectories/snapshot.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace cresco::trajectories {

class MatrixReader {
 public:
  // W_U, W_in.3, W_QK.3.5, a tensor's name: headers are read, numbers are not. With `fold_ln`, W_U
  // is W_U diag(gain of the final norm), and "b_U" is W_U times its bias.
  MatrixReader(const Snapshot& snapshot, const std::string& name, bool fold_ln);

  std::int64_t rows() const { return rows_; }
  std::int64_t width() const { return width_; }
  // Of the stored numbers; F32 for what is computed.
  formats::DType dtype() const { return dtype_; }
  const std::string& note() const { return note_; }  // of what is computed: how

  // Rows in order, each piece of `dtype` and at most some megabytes, and the SHA-256 of the stored
  // bytes they came from.
  std::string read(formats::DType dtype, const std::function<void(Bytes)>& piece) const;

 private:
  void use_head(const Snapshot& snapshot, const std::string& name);
  void use_folded(const Snapshot& snapshot, bool is_bias);
  void use_stored(const Snapshot& snapshot, const std::string& name);

  std::string where_;  // for messages
  std::int64_t rows_ = 0, width_ = 0;
  formats::DType dtype_ = formats::DType::F32;
  std::string note_;
  std::vector<formats::StoredTensor> parts_;  // of (rows, width), one below the other
  // What becomes of a piece of rows in float64, when they are computed with.
  std::function<at::Tensor(const at::Tensor&)> transform_;
  // Small matrices that are computed whole, and the hash of what went into them.
  std::function<std::pair<at::Tensor, std::string>()> whole_;
};

// The rows of stored tensor(s) that a part of a model's matrices stands for, as (out, in).
std::vector<formats::StoredTensor> stored_rows(const Snapshot& snapshot,
                                               const families::MatrixPart& part);

// The names that a pattern with * or ? stands for at a snapshot: mathematical names first; a
// tensor's names when none of those match.
std::vector<std::string> matching_matrices(const Snapshot& snapshot, const std::string& pattern);

}  // namespace cresco::trajectories
