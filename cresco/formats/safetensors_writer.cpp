#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::formats {

SafetensorsLayout lay_out_safetensors(std::vector<TensorView> tensors, const Metadata& metadata,
                                      const std::string& where) {
  SafetensorsLayout layout{.tensors = std::move(tensors)};
  std::sort(layout.tensors.begin(), layout.tensors.end(),
            [](const TensorView& a, const TensorView& b) {
              return std::pair(-bits_of(a.dtype), std::string_view(a.name)) <
                     std::pair(-bits_of(b.dtype), std::string_view(b.name));
            });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t begin = 0;
  for (const TensorView& tensor : layout.tensors) {
    const auto bytes = num_bytes(tensor.dtype, tensor.shape);
    require(bytes.has_value(), "{}: tensor '{}' of shape {} is too large", where, tensor.name,
            shape_text(tensor.shape));
    require(!header.contains(tensor.name), "{}: two tensors are named '{}'", where, tensor.name);
    header[tensor.name] = {{"dtype", name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, begin + *bytes}}};
    layout.offsets.push_back(begin);
    begin += *bytes;
  }
  std::string text = to_line(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t size = text.size();
  layout.header = std::string(reinterpret_cast<const char*>(&size), 8) + text;
  const auto data_begin = static_cast<std::int64_t>(layout.header.size());
  for (std::int64_t& offset : layout.offsets) offset += data_begin;
  layout.file_bytes = data_begin + begin;
  return layout;
}

SafetensorsWriter::SafetensorsWriter(const Path& path, std::vector<TensorView> tensors,
                                     const Metadata& metadata)
    : file_(path) {
  SafetensorsLayout layout = lay_out_safetensors(std::move(tensors), metadata, path.string());
  tensors_ = std::move(layout.tensors);
  file_.write(layout.header);
}

void SafetensorsWriter::write(Bytes bytes) {
  require(next_ < tensors_.size(), "more tensors were written than the header names");
  const TensorView& tensor = tensors_[next_++];
  const auto expected = num_bytes(tensor.dtype, tensor.shape).value();
  require(static_cast<std::int64_t>(bytes.size()) == expected,
          "tensor '{}' was given {} bytes, its shape {} needs {}", tensor.name, bytes.size(),
          shape_text(tensor.shape), expected);
  file_.write(bytes);
}

void SafetensorsWriter::commit() {
  require(next_ == tensors_.size(), "{} of {} tensors were written", next_, tensors_.size());
  file_.commit();
}

void write_safetensors(const Path& path, std::vector<TensorView> tensors,
                       const Metadata& metadata) {
  SafetensorsWriter writer(path, std::move(tensors), metadata);
  for (const TensorView& tensor : writer.tensors()) writer.write(tensor.bytes);
  writer.commit();
}

}  // namespace cresco::formats
