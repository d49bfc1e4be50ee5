#include "cresco/formats/npz.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

namespace cresco::formats {

NpzFile::NpzFile(const Path& path) : NpzFile(std::make_shared<InputFile>(path)) {}

NpzFile::NpzFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {
  for (ZipEntry& entry : read_zip_directory(*file_)) {
    const std::string where =
        fmt::format("{}: array '{}'", path().string(), escape_for_terminal(entry.name));
    require(entry.name.ends_with(".npy"), "{}: is no .npy member", where);
    const std::string start = read_zip_entry_start(*file_, entry, kNpyStartBytes);
    const std::string header =
        read_zip_entry_start(*file_, entry, npy_header_bytes(as_bytes(start), where));
    arrays_.push_back({.name = entry.name.substr(0, entry.name.size() - 4),
                       .header = parse_npy_header(as_bytes(header), entry.bytes, where),
                       .entry = std::move(entry)});
  }
  file_->require_unchanged();
}

StoredTensor NpzFile::stored(const NpzArray& array) const {
  StoredTensor tensor{.name = array.name,
                      .dtype = array.header.dtype,
                      .shape = array.header.shape,
                      .strides = array.header.strides,
                      .file = file_,
                      .offset = array.entry.offset + array.header.header_bytes};
  if (array.entry.is_compressed) {
    // The directory's size is the header's (checked), and no byte more is inflated.
    tensor.file = std::make_shared<InputFile>(
        path().string(), read_zip_entry(*file_, array.entry, kLargestInflatedArray));
    tensor.offset = array.header.header_bytes;
  }
  return tensor;
}

StoredTensor NpzFile::tensor(std::string_view name) const {
  std::vector<std::string> names;
  for (const NpzArray& array : arrays_) {
    if (array.name == name) return stored(array);
    names.push_back(array.name);
  }
  fail("{}: has no array '{}'{}", path().string(), escape_for_terminal(name),
       did_you_mean(name, names));
}

std::vector<StoredTensor> NpzFile::tensors() const {
  std::vector<StoredTensor> tensors;
  for (const NpzArray& array : arrays_) tensors.push_back(stored(array));
  return tensors;
}

}  // namespace cresco::formats
