#include "cresco/formats/torch_file.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/zip.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

namespace cresco::formats {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kStreamMagic = "0x1950a86a20f9469cfc6c";
constexpr std::string_view kStreamBegin(
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);
constexpr int kDeepest = 64;
constexpr std::size_t kMostTensors = 1'000'000;
constexpr std::int64_t kMostNameBytes = 64 << 20;
// Views that repeat elements may claim more than the file holds, up to this much.
constexpr std::int64_t kLargestExpansion = 256 << 20;

std::string start_of(const InputFile& file, std::int64_t num_bytes) {
  return file.read_text(0, std::min(num_bytes, file.size()));
}

// As it stands in a path; keys of other kinds are known by their place.
std::string key_text(const PickleValue& key, std::size_t index) {
  switch (key.kind) {
    case Kind::String:
      return key.text;
    case Kind::Int:
      return std::to_string(key.integer);
    case Kind::Bool:
      return key.integer ? "True" : "False";
    case Kind::None:
      return "None";
    default:
      return fmt::format("#{}", index);
  }
}

// The bytes of a whole storage, or nothing when they can't be counted.
std::optional<std::int64_t> storage_bytes(const PickledStorage& storage) {
  if (storage.is_untyped) return storage.num_elements;
  if (!storage.dtype) return std::nullopt;
  const std::int64_t shape[] = {storage.num_elements};
  return num_bytes(*storage.dtype, shape);
}

}  // namespace

bool looks_like_torch(const InputFile& file) {
  const std::string start = start_of(file, 15);
  return start.starts_with("PK\x03\x04") || start == kStreamBegin;
}

TorchFile::TorchFile(const Path& path) : TorchFile(std::make_shared<InputFile>(path)) {}

TorchFile::TorchFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {
  const std::string where = path().string();
  const std::string start = start_of(*file_, 512);
  require(start.size() < 262 || start.compare(257, 5, "ustar") != 0,
          "{}: a tar file, as PyTorch before 0.2 wrote them: load and save it with a newer one",
          where);
  if (start.starts_with(kStreamBegin))
    open_stream();
  else if (start.starts_with("PK"))
    open_zip();
  else
    fail("{}: not a file of torch.save: it begins neither as a zip nor as the older stream", where);
  tensors_ = collect(root());
  file_->require_unchanged();
}

void TorchFile::open_zip() {
  const std::string where = path().string();
  const std::vector<ZipEntry> entries = read_zip_directory(*file_);
  require(!entries.empty(), "{}: an empty zip", where);
  const std::string top = entries[0].name.substr(0, entries[0].name.find('/') + 1);
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : entries) {
    require(!top.empty() && entry.name.starts_with(top),
            "{}: '{}' stands outside of the zip's one folder: not a file of torch.save", where,
            escape_for_terminal(entry.name));
    require(!entry.is_compressed, "{}: '{}' is compressed: torch.save writes stored entries", where,
            escape_for_terminal(entry.name));
    const std::string_view name = std::string_view(entry.name).substr(top.size());
    if (name == "data.pkl") pickle = &entry;
    require(name != "constants.pkl",
            "{}: a TorchScript archive holds code: save the model's state_dict() instead", where);
    if (name == "byteorder") {
      const std::string order =
          file_->read_text(entry.offset, std::min<std::int64_t>(16, entry.bytes));
      require(order == "little", "{}: its byte order is '{}', only little-endian files are read",
              where, escape_for_terminal(order));
    }
    if (name.starts_with("data/"))
      storages_[std::string(name.substr(5))] = {entry.offset, entry.bytes};
  }
  require(pickle != nullptr, "{}: the zip has no data.pkl: not a file of torch.save", where);
  pickle_ = std::make_unique<Pickle>(*file_, pickle->offset, pickle->offset + pickle->bytes);
  require(pickle_->end() == pickle->offset + pickle->bytes, "{}: {} bytes follow the pickle", where,
          pickle->offset + pickle->bytes - pickle_->end());
}

// Five pickles one after the other (magic, version, about the machine, the values, the keys of the
// storages); then for each key the number of elements and the elements.
void TorchFile::open_stream() {
  const std::string where = path().string();
  const Pickle magic(*file_, 0, file_->size());
  require(magic.root().kind == Kind::LargeInt && magic.root().text == kStreamMagic,
          "{}: not a file of torch.save", where);
  const Pickle version(*file_, magic.end(), file_->size());
  require(version.root().kind == Kind::Int && version.root().integer == 1001,
          "{}: version {} of PyTorch's stream, known is 1001", where, version.root().integer);
  const Pickle machine(*file_, version.end(), file_->size());
  const PickleValue* little = machine.root().find("little_endian");
  require(little && little->kind == Kind::Bool, "{}: does not say its byte order", where);
  require(little->integer == 1, "{}: big-endian, only little-endian files are read", where);
  pickle_ = std::make_unique<Pickle>(*file_, machine.end(), file_->size());
  const Pickle keys(*file_, pickle_->end(), file_->size());
  require(keys.root().kind == Kind::List, "{}: the list of storages is {}", where,
          name_of(keys.root().kind));

  std::map<std::string_view, const PickledStorage*> mentioned;
  for (const auto& storage : pickle_->storages())
    mentioned.try_emplace(storage->key, storage.get());
  std::int64_t at = keys.end();
  for (const PickleValue* key : keys.root().items) {
    const auto found = key->kind == Kind::String ? mentioned.find(key->text) : mentioned.end();
    require(found != mentioned.end(), "{}: a storage in its list that no tensor has", where);
    const std::string what = fmt::format("{}: storage '{}'", where, escape_for_terminal(key->text));
    const PickledStorage& storage = *found->second;
    const auto bytes = storage_bytes(storage);
    require(bytes.has_value(), "{}: is a {}, whose size is not known", what,
            escape_for_terminal(storage.type));
    std::int64_t count = 0;
    file_->read(at, std::as_writable_bytes(std::span(&count, 1)));
    at += 8;
    require(count == storage.num_elements, "{}: holds {} elements, the pickle says {}", what, count,
            storage.num_elements);
    require(*bytes <= file_->size() - at,
            "{}: {} bytes at byte {}, the file ends at {}: an incomplete copy?", what, *bytes, at,
            file_->size());
    require(storages_.try_emplace(key->text, Extent{at, *bytes}).second, "{}: stands twice", what);
    at += *bytes;
  }
  require(at == file_->size(), "{}: {} bytes follow the last storage", where, file_->size() - at);
}

StoredTensor TorchFile::placed(const PickledTensor& pickled, std::string name) const {
  StoredTensor tensor{.name = std::move(name),
                      .dtype = pickled.dtype,
                      .shape = pickled.shape,
                      .strides = pickled.strides,
                      .file = file_};
  const auto refuse = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    fail("{}: {}", tensor.where(), fmt::format(format, std::forward<Args>(args)...));
  };
  const PickledStorage& storage = *pickled.storage;
  const auto found = storages_.find(storage.key);
  if (found == storages_.end())
    refuse("its storage '{}' is not in the file", escape_for_terminal(storage.key));
  const Extent extent = found->second;
  const auto needed = storage_bytes(storage);
  if (!needed || *needed != extent.bytes)
    refuse("its storage '{}' has {} bytes, {} elements of {} need {}", storage.key, extent.bytes,
           storage.num_elements, escape_for_terminal(storage.type),
           needed ? std::to_string(*needed) : "too many");

  // Elements [begin, begin + room) of the storage are this tensor's to use.
  const std::int64_t item = bits_of(tensor.dtype) / 8;
  std::int64_t begin = 0, room = extent.bytes / item;
  if (storage.view_elements >= 0) {
    if (storage.view_begin > room || storage.view_elements > room - storage.view_begin)
      refuse("its view of {} elements at {} is larger than the storage of {}",
             storage.view_elements, storage.view_begin, room);
    begin = storage.view_begin;
    room = storage.view_elements;
  }
  const auto bytes = num_bytes(tensor.dtype, tensor.shape);
  if (!bytes) refuse("shape {} is too large", shape_text(tensor.shape));
  if (*bytes == 0) {
    tensor.offset = extent.offset;
    return tensor;
  }
  std::int64_t last = pickled.offset;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::int64_t step = 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last))
      refuse("shape {} with strides {} is too large", shape_text(tensor.shape),
             shape_text(tensor.strides));
  }
  if (last >= room)
    refuse("shape {} with strides {} from element {} reaches element {}, its storage has {}",
           shape_text(tensor.shape), shape_text(tensor.strides), pickled.offset, last, room);
  if (*bytes > std::max(extent.bytes, kLargestExpansion))
    refuse("repeats {} bytes until they are {}, allowed are {}", extent.bytes, *bytes,
           kLargestExpansion);
  tensor.offset = extent.offset + (begin + pickled.offset) * item;
  return tensor;
}

// Depth first, with an end: parts that are shared are visited again under their other names, within
// bounds; one that contains itself is not entered a second time.
std::vector<StoredTensor> TorchFile::collect(const PickleValue& root) const {
  std::vector<StoredTensor> found;
  std::vector<const PickleValue*> open;
  std::set<std::string> names;
  std::int64_t visits = 0, name_bytes = 0;
  const std::string where = path().string();
  const auto visit = [&](const auto& self, const PickleValue& value,
                         const std::string& name) -> void {
    require(++visits <= 4 * pickle_->size() + 1000,
            "{}: its values contain one another too often to list its tensors", where);
    if (value.kind == Kind::Tensor) {
      name_bytes += static_cast<std::int64_t>(name.size());
      require(found.size() < kMostTensors && name_bytes <= kMostNameBytes,
              "{}: more than {} tensors, or names of more than {} bytes", where, kMostTensors,
              kMostNameBytes);
      require(names.insert(name).second, "{}: two tensors are at '{}'", where,
              escape_for_terminal(name));
      found.push_back(placed(*value.tensor, name));
      return;
    }
    const bool is_list = value.kind == Kind::List || value.kind == Kind::Tuple;
    if (!is_list && value.kind != Kind::Dict && value.kind != Kind::Object) return;
    if (std::find(open.begin(), open.end(), &value) != open.end()) return;
    require(open.size() < kDeepest, "{}: '{}' is nested deeper than {}", where,
            escape_for_terminal(name.substr(0, 200)), kDeepest);
    open.push_back(&value);
    const std::string prefix = open.size() > 1 ? name + "." : "";
    for (std::size_t i = 0; i < value.items.size(); ++i)
      self(self, *value.items[i], prefix + std::to_string(i));
    for (std::size_t i = 0; i < value.entries.size(); ++i)
      self(self, *value.entries[i].second, prefix + key_text(*value.entries[i].first, i));
    open.pop_back();
  };
  visit(visit, root, "");
  return found;
}

const PickleValue* TorchFile::find_value(std::string_view path) const {
  // Where a key with dots and a nested dictionary could both be meant, both are tried.
  std::vector<std::pair<const PickleValue*, std::size_t>> open{{&root(), 0}};
  std::set<std::pair<const PickleValue*, std::size_t>> seen;
  while (!open.empty()) {
    const PickleValue* value = open.back().first;
    const std::size_t at = open.back().second;
    open.pop_back();
    if (at == path.size() + (path.empty() ? 0 : 1)) return value;
    if (!seen.insert({value, at}).second) continue;
    const std::string_view rest = path.substr(at);
    const auto follow = [&](const std::string& key, const PickleValue* next) {
      if (rest == key || (rest.starts_with(key) && rest[key.size()] == '.'))
        open.emplace_back(next, at + key.size() + 1);
    };
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), index);
    if (error == std::errc() && index < value->items.size())
      follow(std::string(rest.data(), end), value->items[index]);
    for (std::size_t i = 0; i < value->entries.size(); ++i)
      follow(key_text(*value->entries[i].first, i), value->entries[i].second);
  }
  return nullptr;
}

const PickleValue& TorchFile::value_at(std::string_view path) const {
  const PickleValue* found = find_value(path);
  require(found != nullptr, "{}: has nothing at '{}'", this->path().string(),
          escape_for_terminal(path));
  return *found;
}

std::vector<StoredTensor> TorchFile::tensors_at(std::string_view path) const {
  return collect(value_at(path));
}

StoredTensor TorchFile::tensor(std::string_view path) const {
  const PickleValue* found = find_value(path);
  if (!found) return tensor_named(tensors_, path, this->path().string());
  require(found->kind == Kind::Tensor, "{}: '{}' is {}{}, not a tensor", this->path().string(),
          escape_for_terminal(path), name_of(found->kind),
          found->kind == Kind::Object
              ? fmt::format(" ({}: its numbers are made by code, which is not run)",
                            escape_for_terminal(found->text))
              : "");
  return placed(*found->tensor, std::string(path));
}

}  // namespace cresco::formats
