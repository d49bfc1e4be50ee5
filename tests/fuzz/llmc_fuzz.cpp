// Any bytes as a model of llm.c: every tensor is read, or an Error. The rest of the header and the
// numbers are made up, so that small inputs reach far: eight fields, then how much is missing.
#include "cresco/base/require.h"
#include "cresco/formats/llmc.h"

#include <algorithm>
#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 32));
  if (size >= 34) {
    std::uint16_t more = 0;
    std::memcpy(&more, data + 32, sizeof more);
    bytes.resize(1024 + more, '\1');
  }
  try {
    const auto input = std::make_shared<cresco::InputFile>("fuzz", std::move(bytes));
    cresco::formats::looks_like_llmc(*input);
    const cresco::formats::LlmcFile file(input);
    for (const auto& tensor : file.tensors()) {
      std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
      read(tensor, numbers);
    }
  } catch (const cresco::Error&) {
  }
  return 0;
}
