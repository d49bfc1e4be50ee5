// Writes what torch.load reads: a dictionary of tensors, or one tensor alone, in PyTorch's zip. The
// pickle holds nothing but PyTorch's own tensors, so that weights_only=True accepts it, and the
// numbers lie at multiples of 64 bytes, so that mmap=True does. See docs/formats/torch.md.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"
#include "cresco/formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::formats {

// A dictionary of tensors; one tensor alone; or, as trainers save, the dictionary under the name
// `model` beside other values.
enum class TorchRoot { Dictionary, Tensor, Model };

// One tensor after the other, so that only one has to be in memory.
class TorchWriter {
 public:
  // Names, types and shapes; `bytes` of the views is not used. TorchRoot::Tensor takes exactly one.
  // `beside` is what TorchRoot::Model keeps beside them: numbers, words, flags and objects of
  // these. Error for names that stand twice and for types that PyTorch does not have.
  TorchWriter(const Path& path, std::vector<TensorView> tensors,
              TorchRoot root = TorchRoot::Dictionary, const Json& beside = Json::object());
  const std::vector<TensorView>& tensors() const { return tensors_; }
  void write(Bytes bytes);  // of the next tensor; Error when the size is not its own
  void commit();            // Error when a tensor is missing

 private:
  struct Entry {
    std::string name;
    std::uint32_t crc32 = 0;
    std::int64_t bytes = 0, begin = 0;
  };
  void add_entry(const std::string& name, Bytes bytes);

  AtomicFile file_;
  std::vector<TensorView> tensors_;
  std::vector<Entry> entries_;
  std::size_t next_ = 0;
};

void write_torch(const Path& path, const std::vector<TensorView>& tensors);
void write_torch_tensor(const Path& path, const TensorView& tensor);

}  // namespace cresco::formats
