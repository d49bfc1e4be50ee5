// Writes what torch.load reads: tensors, alone or among other values, in PyTorch's zip. The pickle
// holds nothing but PyTorch's own tensors and Python's plain values, so that weights_only=True
// accepts it, and the numbers lie at multiples of 64 bytes, so that mmap=True does. See
// docs/formats/torch.md.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/zip_writer.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::formats {

// In the values of a file: here stands tensor i.
Json torch_place(std::size_t i);
// A dictionary of the tensors' names, with the place of each. Error for names that stand twice.
Json torch_dictionary(const std::vector<TensorView>& tensors, const std::string& where);

// One tensor after the other, so that only one has to be in memory.
class TorchWriter {
 public:
  // A dictionary from names to tensors. Names, types and shapes; `bytes` of the views is not used.
  // Error for names that stand twice and for types that PyTorch does not have.
  TorchWriter(const Path& path, std::vector<TensorView> tensors);
  // Any numbers, words, flags, lists and dictionaries, with tensors at their torch_place; the
  // names of the views are for messages.
  TorchWriter(const Path& path, const Json& values, std::vector<TensorView> tensors);
  const std::vector<TensorView>& tensors() const { return tensors_; }
  void write(Bytes bytes);  // of the next tensor; Error when the size is not its own
  void commit();            // Error when a tensor is missing

 private:
  void add_entry(const std::string& name, Bytes bytes);

  ZipWriter zip_;
  std::vector<TensorView> tensors_;
  std::size_t next_ = 0;
};

void write_torch(const Path& path, const std::vector<TensorView>& tensors);
void write_torch_tensor(const Path& path, const TensorView& tensor);
void write_torch(const Path& path, const Json& values, const std::vector<TensorView>& tensors);

}  // namespace cresco::formats
