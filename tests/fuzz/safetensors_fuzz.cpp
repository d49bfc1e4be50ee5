// Any bytes as such a file: read, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/safetensors.h"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    cresco::formats::parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz", nullptr);
  } catch (const cresco::Error&) {
  }
  return 0;
}
