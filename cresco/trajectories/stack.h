// A stack: one named matrix of one model at several steps, in one safetensors file.
// The format: docs/formats/stack.md. Shape suffixes: K snapshots, V rows, D width.
#pragma once

#include "cresco/formats/safetensors.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace cresco::trajectories {

inline constexpr int kStackVersion = 1;

struct StackInfo {
  std::string model;                // Hugging Face id or the run's name
  std::string matrix;               // W_U, W_E, ...
  std::vector<std::int64_t> steps;  // ascending
};

class Stack {
 public:
  // Error when a step is missing, or shapes or types differ between steps.
  explicit Stack(const Path& path);

  const Path& path() const { return file_.path(); }
  const StackInfo& info() const { return info_; }
  const std::vector<std::int64_t>& steps() const { return info_.steps; }
  std::int64_t num_snapshots() const { return static_cast<std::int64_t>(info_.steps.size()); }
  std::int64_t num_rows() const { return rows_; }
  std::int64_t width() const { return width_; }
  formats::DType dtype() const { return dtype_; }

  // The matrix of snapshot k as float32 (V, D). Error with step and row when it holds NaN or
  // infinity.
  at::Tensor at(std::int64_t k) const;
  // A stack of some of the steps: their indices, in the order given. Error that names the steps
  // there are.
  std::vector<std::int64_t> indices(const std::vector<std::int64_t>& steps) const;

 private:
  formats::SafetensorsFile file_;
  StackInfo info_;
  std::int64_t rows_ = 0, width_ = 0;
  formats::DType dtype_ = formats::DType::F32;
};

// Writes snapshot after snapshot; only one matrix is in memory at a time.
class StackWriter {
 public:
  StackWriter(const Path& path, const StackInfo& info, formats::DType dtype, std::int64_t rows,
              std::int64_t width, const std::vector<std::string>& source_hashes);
  // Of the next step in file order, which order() gives: safetensors sorts by name.
  void write(const at::Tensor& matrix_VD);
  std::vector<std::int64_t> order() const;
  void commit();

 private:
  formats::SafetensorsWriter writer_;
};

}  // namespace cresco::trajectories
