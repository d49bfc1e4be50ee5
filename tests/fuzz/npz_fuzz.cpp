// Any bytes as a .npz, or as the .npy in one: every array is read, or an Error. The first byte
// chooses.
#include "cresco/base/require.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/zip_of.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 's' || data[0] == 'd')
    bytes = cresco::formats::zip_of({{"a.npy", bytes, data[0] == 'd'}});
  try {
    const cresco::formats::NpzFile file(
        std::make_shared<cresco::InputFile>("fuzz", std::move(bytes)));
    std::int64_t total = 0;
    for (const auto& array : file.arrays()) total += array.entry.bytes;
    if (total > 1 << 20) return 0;
    for (const auto& tensor : file.tensors()) {
      std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
      read(tensor, numbers);
      file.tensor(tensor.name);
    }
    file.tensor("another");
  } catch (const cresco::Error&) {
  }
  return 0;
}
