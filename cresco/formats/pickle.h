// Python's pickles, read without running them: an interpreter of our own builds a tree of plain
// values. It knows the few names that PyTorch's tensors are made of; every other class or function
// becomes a placeholder that holds its name and arguments, and nothing is ever called. See
// docs/formats/torch.md.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/input_file.h"
#include "cresco/formats/dtype.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cresco::formats {

// Numbers that lie in the file, outside of the pickle. `num_elements` counts bytes when the storage
// is untyped.
struct PickledStorage {
  std::string type;  // "torch.FloatStorage"
  std::optional<DType> dtype;
  bool is_untyped = false;
  std::string key;
  std::int64_t num_elements = 0;
  // Files from before PyTorch 1.6: this storage is a part of the stored one, in elements.
  std::int64_t view_begin = 0, view_elements = -1;  // -1: all of it
};

// Nothing is checked against the storage yet, only that there are as many strides as sizes and that
// none is negative. Offset and strides are in elements.
struct PickledTensor {
  std::shared_ptr<const PickledStorage> storage;
  DType dtype = DType::F32;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape, strides;
};

// A value may stand in several places, and a container may contain itself: whoever walks the tree
// bounds the walk.
struct PickleValue {
  enum class Kind {
    None,
    Bool,
    Int,
    LargeInt,  // beyond 64 bits
    Float,
    String,
    Bytes,
    List,
    Tuple,
    Set,
    Dict,
    Global,  // a class or function by name: dtypes stand here too
    Object,  // a placeholder: what a function or class that we don't know would have made
    Storage,
    Tensor
  };

  Kind kind = Kind::None;
  std::int64_t integer = 0;  // Bool, Int
  double number = 0;         // Float
  // String (UTF-8 as a rule), Bytes; LargeInt: hexadecimal, "0x..."; Global and Object: the name,
  // "numpy.core.multiarray.scalar".
  std::string text;
  std::vector<const PickleValue*> items;  // List, Tuple, Set; Object: what was appended to it
  // Dict; Object: what was set in it. Names and whole numbers stand at most once in a Dict.
  std::vector<std::pair<const PickleValue*, const PickleValue*>> entries;
  const PickleValue* arguments = nullptr;         // Object: a Tuple
  const PickleValue* state = nullptr;             // Object: what it was filled with, or null
  std::shared_ptr<const PickledStorage> storage;  // Storage
  std::shared_ptr<const PickledTensor> tensor;    // Tensor

  const PickleValue* find(std::string_view key) const;  // of a Dict or Object; null without it
};

class Pickle {
 public:
  // Reads the pickle that begins at byte `begin` of the file and ends by byte `end`. Protocols 0 to
  // 5. Memory is at most 64 MiB and 256 bytes for each of the pickle's. Error for anything that is
  // not a well-formed pickle within these bounds.
  Pickle(const InputFile& file, std::int64_t begin, std::int64_t end);

  const PickleValue& root() const { return *root_; }  // lives as long as this object
  std::int64_t end() const { return end_; }           // of the pickle, in the file
  // The names of globals that became placeholders, in order, each once.
  const std::vector<std::string>& unknown_globals() const { return unknown_globals_; }
  // Every mention of a storage, in order.
  const std::vector<std::shared_ptr<const PickledStorage>>& storages() const { return storages_; }
  // How many values and links between them there are: a walk that takes many more is lost in shared
  // or circular parts.
  std::int64_t size() const { return size_; }

 private:
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
  std::int64_t end_ = 0, size_ = 0;
  std::vector<std::string> unknown_globals_;
  std::vector<std::shared_ptr<const PickledStorage>> storages_;
};

std::string_view name_of(PickleValue::Kind kind);  // "a list", for messages

// Numbers, words and flags, and the lists, tuples and dictionaries by name of these. What else
// there is (None, tensors, placeholders, keys that are no words) is left out of dictionaries and
// null in lists. Error for a tree that contains itself or does not end.
Json plain_json(const PickleValue& value);

}  // namespace cresco::formats
