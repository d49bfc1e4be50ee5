// Any bytes as such a file: read, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/npy.h"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    cresco::formats::parse_npy(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const cresco::Error&) {
  }
  return 0;
}
