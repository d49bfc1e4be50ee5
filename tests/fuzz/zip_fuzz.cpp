// Any bytes as a zip: its entries are read, inflated within bounds, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/zip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const cresco::InputFile file("fuzz", std::string(reinterpret_cast<const char*>(data), size));
    for (const auto& entry : cresco::formats::read_zip_directory(file)) {
      cresco::formats::read_zip_entry_start(file, entry, 100);
      cresco::formats::read_zip_entry(file, entry, 1 << 20);
    }
  } catch (const cresco::Error&) {
  }
  return 0;
}
