// Any bytes as such a file: read, or refused with an Error.
#include "cresco/artifacts/table.h"
#include "cresco/base/require.h"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    cresco::artifacts::parse_csv({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const cresco::Error&) {
  }
  return 0;
}
