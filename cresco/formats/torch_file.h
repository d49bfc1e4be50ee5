// What torch.save wrote: a zip (.pt, .pth, .bin) or the older plain stream. The pickle inside is
// read without running it. See docs/formats/torch.md.
#pragma once

#include "cresco/formats/pickle.h"
#include "cresco/formats/stored_tensor.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

// Paths go through dictionaries by key and through lists by index: "model.transformer.wte.weight",
// "optimizer.state.0.exp_avg". Keys may hold dots themselves, as those of a state dict do. The
// root's own path is empty.
class TorchFile {
 public:
  // Reads the pickle and finds every tensor; the numbers are not touched. Error for damage of any
  // kind, big-endian files, TorchScript archives and the tar files of PyTorch 0.1; not for classes
  // that we don't know.
  explicit TorchFile(const Path& path);
  explicit TorchFile(std::shared_ptr<const InputFile> file);

  const Path& path() const { return file_->path(); }
  const PickleValue& root() const { return pickle_->root(); }
  // Names of classes and functions that became placeholders: what lies in them can't be read.
  const std::vector<std::string>& unknown_globals() const { return pickle_->unknown_globals(); }

  // Every tensor in nested dictionaries, lists and tuples, named by its path, in the file's order.
  // Tied tensors stand under each of their names.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  // Those below a path, named from there on: tensors_at("model") has "transformer.wte.weight".
  std::vector<StoredTensor> tensors_at(std::string_view path) const;
  // Error that says what is there instead: nothing, another value, or a placeholder's name.
  StoredTensor tensor(std::string_view path) const;

  const PickleValue* find_value(std::string_view path) const;  // null when there is none
  const PickleValue& value_at(std::string_view path) const;    // Error that names the path

 private:
  struct Extent {
    std::int64_t offset = 0, bytes = 0;
  };
  void open_zip();
  void open_stream();
  StoredTensor placed(const PickledTensor& tensor, std::string name) const;
  std::vector<StoredTensor> collect(const PickleValue& root) const;

  std::shared_ptr<const InputFile> file_;
  std::unique_ptr<const Pickle> pickle_;
  std::map<std::string, Extent> storages_;  // by key
  std::vector<StoredTensor> tensors_;
};

// Whether the file begins as torch.save's files do: a zip, or the older stream.
bool looks_like_torch(const InputFile& file);

}  // namespace cresco::formats
