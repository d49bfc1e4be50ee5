#include "cresco/formats/safetensors.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>

namespace cresco::formats {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are read as they lie in the file");

constexpr std::uint64_t kLargestHeader = 100'000'000;

// What the header says of one tensor, checked by itself. The data is bytes [data_begin, end of
// file).
StoredTensor read_entry(const std::string& name, const Json& entry,
                        const std::shared_ptr<const InputFile>& file, std::int64_t data_begin) {
  StoredTensor tensor{.name = name, .file = file};
  const std::string what = tensor.where();
  const auto data_bytes = static_cast<std::uint64_t>(file->size() - data_begin);
  require(entry.is_object(), "{}: its entry is not an object", what);

  const std::string dtype = get_string(entry, "dtype", what);
  const auto known = dtype_named(dtype);
  require(known.has_value(), "{}: unknown dtype '{}'", what, escape_for_terminal(dtype));
  tensor.dtype = *known;

  require(entry.contains("shape") && entry["shape"].is_array(), "{}: 'shape' is missing or no list",
          what);
  for (const Json& size : entry["shape"]) {
    require(size.is_number_unsigned() && size.get<std::uint64_t>() <= INT64_MAX,
            "{}: the shape holds {}, expected sizes of 0 or more", what, to_line(size));
    tensor.shape.push_back(size.get<std::int64_t>());
  }
  const auto needed = num_bytes(tensor.dtype, tensor.shape);
  require(needed.has_value(), "{}: shape {} of {} does not fill a whole number of bytes below 2^63",
          what, shape_text(tensor.shape), dtype);

  const Json* offsets = entry.contains("data_offsets") ? &entry["data_offsets"] : nullptr;
  require(offsets && offsets->is_array() && offsets->size() == 2 &&
              (*offsets)[0].is_number_unsigned() && (*offsets)[1].is_number_unsigned(),
          "{}: 'data_offsets' is not a pair of byte positions", what);
  const auto begin = (*offsets)[0].get<std::uint64_t>(), end = (*offsets)[1].get<std::uint64_t>();
  require(begin <= end, "{}: begins at byte {} and ends before it, at {}", what, begin, end);
  require(end - begin == static_cast<std::uint64_t>(*needed),
          "{}: has {} bytes, but shape {} of {} needs {}", what, end - begin,
          shape_text(tensor.shape), dtype, *needed);
  require(end <= data_bytes, "{}: ends at byte {} of the data, which has {}: an incomplete copy?",
          what, end, data_bytes);
  require(entry.size() == 3, "{}: its entry holds more than dtype, shape and data_offsets", what);
  tensor.offset = data_begin + static_cast<std::int64_t>(begin);
  return tensor;
}

Metadata read_metadata(const Json& entry, const std::string& where) {
  Metadata metadata;
  require(entry.is_object(), "{}: __metadata__ is not an object", where);
  for (const auto& [key, value] : entry.items()) {
    require(value.is_string(), "{}: __metadata__ '{}' is not text", where,
            escape_for_terminal(key));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// No holes and no overlaps: every byte of the data belongs to one tensor.
void require_dense(const std::vector<StoredTensor>& tensors, std::int64_t data_begin,
                   const InputFile& file) {
  std::int64_t end = data_begin;
  for (const StoredTensor& tensor : tensors) {
    require(tensor.offset == end, "{}: begins at byte {} of the data, the one before it ends at {}",
            tensor.where(), tensor.offset - data_begin, end - data_begin);
    end += tensor.num_bytes();
  }
  require(end == file.size(),
          "{}: the tensors end at byte {} of the data, which has {}: a damaged file?",
          file.path().string(), end - data_begin, file.size() - data_begin);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const Path& path)
    : SafetensorsFile(std::make_shared<InputFile>(path)) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {
  const std::string where = path().string();
  require(file_->size() >= 8, "{}: {} bytes, too short for a safetensors file", where,
          file_->size());
  std::uint64_t header_bytes = 0;
  file_->read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  require(header_bytes <= kLargestHeader,
          "{}: the header claims {} bytes, more than the {} allowed: not a safetensors file?",
          where, header_bytes, kLargestHeader);
  require(static_cast<std::int64_t>(header_bytes) <= file_->size() - 8,
          "{}: the header claims {} bytes, the file has {} after its first 8: an incomplete copy?",
          where, header_bytes, file_->size() - 8);
  const auto data_begin = 8 + static_cast<std::int64_t>(header_bytes);
  const Json header = parse_json(file_->read_text(8, data_begin - 8), where + ": header");
  require(header.is_object(), "{}: the header is not a JSON object", where);

  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__")
      metadata_ = read_metadata(entry, where);
    else
      tensors_.push_back(read_entry(name, entry, file_, data_begin));
  }
  // A tensor without bytes stands before the one that begins where it does.
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const StoredTensor& a, const StoredTensor& b) {
                     return std::pair(a.offset, a.num_bytes()) < std::pair(b.offset, b.num_bytes());
                   });
  require_dense(tensors_, data_begin, *file_);
}

}  // namespace cresco::formats
