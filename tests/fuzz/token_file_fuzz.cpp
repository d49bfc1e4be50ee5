// Any bytes as a token index: read, or refused with an Error. The first byte says how many bytes
// the .bin beside it has; half of them are zeros, so that ids of 64 bits are small ones and large.
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cresco;
  using namespace cresco::formats;
  if (size == 0) return 0;
  static const TemporaryFolder folder;
  const auto put = [](const Path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  };
  std::string tokens(data[0], '\0');
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = i % 8 == 0 || i > 127 ? '\1' : '\0';
  const std::string index(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const InputFile idx("fuzz", index);
    const TokenIndexHeader header = read_token_index_header(idx);
    for (std::int64_t i = 0; i < header.sequences; ++i) token_index_size(idx, i);

    put(folder / "c.bin", tokens);
    put(folder / "c.idx", index);
    const TokenFile file(token_file_prefix(folder / "c.idx"));
    const std::int64_t count = file.num_tokens();
    if (file.begin(file.num_sequences()) != count) std::abort();
    for (const std::int64_t first : {std::int64_t{0}, count / 2, count}) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(count - first));
      file.read(first, ids);
    }
    std::vector<std::int32_t> one(1);
    file.read(count, one);
    std::abort();  // nothing stands there
  } catch (const Error&) {
  }
  return 0;
}
