#include "cresco/base/require.h"
#include "cresco/formats/npy.h"

#include <algorithm>

namespace cresco::formats {

std::string npy_header(DType dtype, std::span<const std::int64_t> shape, const std::string& where) {
  const auto* known = std::find_if(std::begin(kNpyTypes), std::end(kNpyTypes),
                                   [&](const auto& entry) { return entry.second == dtype; });
  require(known != std::end(kNpyTypes), "{}: NumPy has no type for {}", where, name_of(dtype));
  std::string sizes;
  for (const std::int64_t size : shape)
    sizes += fmt::format("{},{}", size, shape.size() > 1 ? " " : "");
  if (shape.size() > 1) sizes.resize(sizes.size() - 2);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   known->first, sizes);
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  const auto size = static_cast<std::uint16_t>(header.size());
  return std::string(kNpyMagic) + std::string("\x01\x00", 2) +
         std::string(reinterpret_cast<const char*>(&size), 2) + header;
}

NpyWriter::NpyWriter(const Path& path, DType dtype, std::span<const std::int64_t> shape)
    : file_(path), path_(path.string()) {
  const auto bytes = num_bytes(dtype, shape);
  require(bytes.has_value(), "{}: shape {} is too large", path_, shape_text(shape));
  expected_ = *bytes;
  file_.write(npy_header(dtype, shape, path_));
}

void NpyWriter::write(Bytes bytes) {
  written_ += static_cast<std::int64_t>(bytes.size());
  file_.write(bytes);
}

void NpyWriter::commit() {
  require(written_ == expected_, "{}: {} bytes were given, the shape needs {}", path_, written_,
          expected_);
  file_.commit();
}

void write_npy(const Path& path, DType dtype, std::span<const std::int64_t> shape, Bytes bytes) {
  NpyWriter writer(path, dtype, shape);
  writer.write(bytes);
  writer.commit();
}

}  // namespace cresco::formats
