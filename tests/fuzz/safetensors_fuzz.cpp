// Any bytes as such a file: read, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/safetensors.h"

#include <memory>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const cresco::formats::SafetensorsFile file(std::make_shared<cresco::InputFile>(
        "fuzz", std::string(reinterpret_cast<const char*>(data), size)));
  } catch (const cresco::Error&) {
  }
  return 0;
}
