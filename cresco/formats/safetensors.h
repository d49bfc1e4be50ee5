// safetensors: a JSON header of names, types, shapes and byte ranges, then the bytes.
// Format and checks: docs/formats/safetensors.md.
#pragma once

#include "cresco/base/files.h"
#include "cresco/formats/stored_tensor.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cresco::formats {

using Metadata = std::map<std::string, std::string>;

// A tensor in memory that is to be written: row-major, little-endian.
struct TensorView {
  std::string name;
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  Bytes bytes;
};

class SafetensorsFile {
 public:
  // Reads and checks the whole header; the tensors' bytes are not touched. Error with file, tensor
  // and both numbers for anything that a sound writer does not write.
  explicit SafetensorsFile(const Path& path);
  explicit SafetensorsFile(std::shared_ptr<const InputFile> file);

  const Path& path() const { return file_->path(); }
  const Metadata& metadata() const { return metadata_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in order of their bytes

  const StoredTensor* find(std::string_view name) const {  // null when there is none
    return find_tensor(tensors_, name);
  }
  const StoredTensor& tensor(std::string_view name) const {  // Error that names what is there
    return tensor_named(tensors_, name, path().string());
  }

 private:
  std::shared_ptr<const InputFile> file_;
  Metadata metadata_;
  std::vector<StoredTensor> tensors_;
};

// What a file of these tensors looks like: in order of alignment, then name; the header padded so
// that the data starts at a multiple of 8.
struct SafetensorsLayout {
  std::vector<TensorView> tensors;    // in file order
  std::string header;                 // the first bytes of the file
  std::vector<std::int64_t> offsets;  // of each tensor, from the start of the file
  std::int64_t file_bytes = 0;
};
// Error for two tensors of one name, or sizes that overflow.
SafetensorsLayout lay_out_safetensors(std::vector<TensorView> tensors, const Metadata& metadata,
                                      const std::string& where);

void write_safetensors(const Path& path, std::vector<TensorView> tensors,
                       const Metadata& metadata = {});

// Writes tensors one after the other, so that only one has to be in memory: the header is laid out
// from names, types and shapes, then the bytes of each follow in the order of tensors().
class SafetensorsWriter {
 public:
  SafetensorsWriter(const Path& path, std::vector<TensorView> tensors,
                    const Metadata& metadata = {});
  const std::vector<TensorView>& tensors() const { return tensors_; }  // in file order
  void write(Bytes bytes);  // of the next tensor; Error when the size is not its own
  void commit();            // Error when a tensor is missing

 private:
  AtomicFile file_;
  std::vector<TensorView> tensors_;
  std::size_t next_ = 0;
};

}  // namespace cresco::formats
