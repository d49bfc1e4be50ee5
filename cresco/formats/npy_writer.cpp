#include "cresco/base/require.h"
#include "cresco/formats/npy.h"

#include <algorithm>

namespace cresco::formats {

NpyWriter::NpyWriter(const Path& path, DType dtype, std::span<const std::int64_t> shape)
    : file_(path), path_(path.string()) {
  const auto* known = std::find_if(std::begin(kNpyTypes), std::end(kNpyTypes),
                                   [&](const auto& entry) { return entry.second == dtype; });
  require(known != std::end(kNpyTypes), "{}: NumPy has no type for {}", path_, name_of(dtype));
  const auto bytes = num_bytes(dtype, shape);
  require(bytes.has_value(), "{}: shape {} is too large", path_, shape_text(shape));
  expected_ = *bytes;
  std::string sizes;
  for (const std::int64_t size : shape)
    sizes += fmt::format("{},{}", size, shape.size() > 1 ? " " : "");
  if (shape.size() > 1) sizes.resize(sizes.size() - 2);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   known->first, sizes);
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  const auto size = static_cast<std::uint16_t>(header.size());
  file_.write(kNpyMagic);
  file_.write(std::string_view("\x01\x00", 2));
  file_.write(std::as_bytes(std::span(&size, 1)));
  file_.write(header);
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
