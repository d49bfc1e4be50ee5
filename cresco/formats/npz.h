// NumPy's .npz files: a zip of .npy members, stored (numpy.savez) or deflated
// (numpy.savez_compressed). See docs/formats/npy.md.
#pragma once

#include "cresco/formats/npy.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/zip.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

// Compressed arrays are inflated into memory: larger ones are refused.
constexpr std::int64_t kLargestInflatedArray = std::int64_t{4} << 30;

struct NpzArray {
  std::string name;  // without ".npy"
  NpyHeader header;
  ZipEntry entry;
};

class NpzFile {
 public:
  // Reads the directory and every member's header; of compressed members no more than that is
  // inflated. Error for members that are no arrays, or whose size is not what their header says.
  explicit NpzFile(const Path& path);
  explicit NpzFile(std::shared_ptr<const InputFile> file);

  const Path& path() const { return file_->path(); }
  const std::vector<NpzArray>& arrays() const { return arrays_; }  // in the file's order
  // Where it lies in the file; a compressed array is inflated now and lies in memory.
  StoredTensor tensor(std::string_view name) const;
  std::vector<StoredTensor> tensors() const;  // all of them

 private:
  StoredTensor stored(const NpzArray& array) const;

  std::shared_ptr<const InputFile> file_;
  std::vector<NpzArray> arrays_;
};

// As numpy.savez does: stored, under the names of the views.
void write_npz(const Path& path, const std::vector<TensorView>& arrays);

}  // namespace cresco::formats
