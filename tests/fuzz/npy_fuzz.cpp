// Any bytes as such a file: read, in memory and in place, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/npy.h"

#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  bool was_read = false;
  try {
    const auto file = std::make_shared<cresco::InputFile>(
        "fuzz", std::string(reinterpret_cast<const char*>(data), size));
    const auto tensor = cresco::formats::npy_tensor(file, 0, file->size(), "");
    std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
    read(tensor, numbers);
    was_read = true;
  } catch (const cresco::Error&) {
  }
  try {
    const auto array = cresco::formats::parse_npy(std::as_bytes(std::span(data, size)), "fuzz");
    if (!was_read) std::abort();
    try {
      npy_integers(array, "fuzz");
    } catch (const cresco::Error&) {
      npy_numbers(array, "fuzz");
    }
  } catch (const cresco::Error&) {
  }
  return 0;
}
