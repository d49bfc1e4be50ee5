#include "cresco/base/require.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/zip_writer.h"

namespace cresco::formats {

void write_npz(const Path& path, const std::vector<TensorView>& arrays) {
  ZipWriter zip(path);
  for (const TensorView& array : arrays) {
    const std::string where = fmt::format("{}: array '{}'", path.string(), array.name);
    const std::string header = npy_header(array.dtype, array.shape, where);
    const auto bytes = num_bytes(array.dtype, array.shape);
    require(bytes == static_cast<std::int64_t>(array.bytes.size()),
            "{}: {} bytes were given, the shape {} needs {}", where, array.bytes.size(),
            shape_text(array.shape), bytes.value_or(-1));
    zip.add(array.name + ".npy", {as_bytes(header), array.bytes});
  }
  zip.commit();
}

}  // namespace cresco::formats
