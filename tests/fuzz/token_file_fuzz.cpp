// Any bytes as a token index beside a .bin of sixteen tokens: read, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <fstream>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const cresco::TemporaryFolder folder;
  const auto put = [](const cresco::Path& path, const char* bytes, std::size_t count) {
    std::ofstream(path, std::ios::binary).write(bytes, static_cast<std::streamsize>(count));
  };
  static const std::vector<char> tokens(32, '\1');
  put(folder / "c.bin", tokens.data(), tokens.size());
  put(folder / "c.idx", reinterpret_cast<const char*>(data), size);
  try {
    const cresco::formats::TokenFile file(folder / "c");
    std::vector<std::int32_t> ids(static_cast<std::size_t>(file.num_tokens()));
    file.read(0, ids);
  } catch (const cresco::Error&) {
  }
  return 0;
}
