// A stack: one named matrix of one model at several steps, in one safetensors file.
// The format: docs/formats/stack.md. Shape suffixes: K snapshots, V rows, D width.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"
#include "cresco/formats/safetensors.h"

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace cresco::trajectories {

inline constexpr int kStackVersion = 1;
inline constexpr const char* kStackFormat = "cresco-stack";  // of the file's metadata

struct StackInfo {
  std::string model;                // Hugging Face id or the run's name
  std::string matrix;               // W_U, W_E, ...
  std::vector<std::int64_t> steps;  // ascending
  std::string note;                 // what a reader should know: "without rotary", ...
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

  // Where the matrix of snapshot k lies.
  const formats::StoredTensor& stored(std::int64_t k) const;
  // The matrix of snapshot k as float32 (V, D). Error with step and row when it holds NaN or
  // infinity.
  at::Tensor at(std::int64_t k) const { return rows(k, 0, num_rows()); }
  // Rows [first, first + count) of it alone.
  at::Tensor rows(std::int64_t k, std::int64_t first, std::int64_t count) const;
  // A stack of some of the steps: their indices, in the order given. Error that names the steps
  // there are.
  std::vector<std::int64_t> indices(const std::vector<std::int64_t>& steps) const;

 private:
  formats::SafetensorsFile file_;
  StackInfo info_;
  std::int64_t rows_ = 0, width_ = 0;
  formats::DType dtype_ = formats::DType::F32;
};

// Writes a stack matrix by matrix, in any order of the steps, so that only a piece is in memory.
//
// Until commit() it grows in <path>.part, and <path>.part.json keeps which steps are whole and what
// they were made from: a writer that was killed goes on after its last whole step, and the file
// comes out the same byte for byte.
class StackWriter {
 public:
  // `source` says what is read, in any words that change when it does; a part that was made from
  // something else, or of another shape, begins anew.
  StackWriter(const Path& path, const StackInfo& info, formats::DType dtype, std::int64_t rows,
              std::int64_t width, const Json& source = Json::object());

  bool has(std::int64_t step) const { return hashes_.contains(step); }
  // The bytes of one step's matrix, rows one after the other, in pieces of any size; then end()
  // with the hash of what it was made from.
  void begin(std::int64_t step);
  void write(Bytes piece);
  void end(const std::string& source_sha256);
  void write(std::int64_t step, const at::Tensor& matrix_VD);  // the three in one

  void commit();  // Error when a step is missing
  const std::map<std::int64_t, std::string>& source_hashes() const { return hashes_; }

 private:
  formats::SafetensorsLayout layout() const;
  void write_journal() const;
  std::map<std::int64_t, std::string> steps_of_journal() const;

  Path path_, part_, journal_;
  StackInfo info_;
  formats::DType dtype_;
  std::int64_t rows_, width_;
  Json source_;
  std::map<std::int64_t, std::string> hashes_;      // of the steps that are whole
  std::map<std::int64_t, std::int64_t> offset_of_;  // of each step's matrix in the file

  OutputFile file_;
  std::int64_t step_ = -1, at_ = 0, end_ = 0;  // the matrix that is being written
};

// All steps at once, from matrices in memory in the order of info.steps.
void write_stack(const Path& path, const StackInfo& info, const std::vector<at::Tensor>& matrices);

}  // namespace cresco::trajectories
