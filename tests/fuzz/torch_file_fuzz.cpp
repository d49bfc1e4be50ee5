// Any bytes as a file of torch.save, or as the pickle in one: every tensor is read and every path
// found again, or an Error. The first byte chooses.
#include "cresco/base/require.h"
#include "cresco/formats/torch_file.h"
#include "cresco/formats/zip_of.h"

#include <nlohmann/json.hpp>

#include <cstdlib>

namespace {

void read_all(std::string bytes) {
  const auto input = std::make_shared<cresco::InputFile>("fuzz", std::move(bytes));
  cresco::formats::looks_like_torch(*input);
  const cresco::formats::TorchFile file(input);
  for (const auto& tensor : file.tensors()) {
    if (tensor.num_bytes() > 1 << 16) continue;
    std::vector<std::byte> numbers(static_cast<std::size_t>(tensor.num_bytes()));
    read(tensor, numbers);
    if (!file.find_value(tensor.name)) std::abort();
  }
  cresco::formats::plain_json(file.root());
  for (const std::string_view path : {"", "0", "model.a.0.b", "module", "object"}) {
    try {
      file.tensors_at(path);
      file.tensor(path);
    } catch (const cresco::Error&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'p')  // the pickle of a zip: mutations are not lost on the zip around it
      bytes = cresco::formats::zip_of({{"a/data.pkl", bytes},
                                       {"a/data/0", std::string(24, '\1')},
                                       {"a/data/1", std::string(8, '\2')}});
    read_all(std::move(bytes));
  } catch (const cresco::Error&) {
  }
  return 0;
}
