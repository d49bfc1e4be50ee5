// Any bytes as such a file: every tensor is read, or an Error.
#include "cresco/base/require.h"
#include "cresco/formats/safetensors.h"

#include <cstdlib>
#include <memory>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const cresco::formats::SafetensorsFile file(std::make_shared<cresco::InputFile>(
        "fuzz", std::string(reinterpret_cast<const char*>(data), size)));
    for (const auto& tensor : file.tensors()) {
      std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
      read(tensor, numbers);
      if (!file.find(tensor.name)) std::abort();
    }
    file.tensor("another");
  } catch (const cresco::Error&) {
  }
  return 0;
}
