// Any bytes as a file of token ids alone: read, or refused with an Error.
#include "cresco/base/require.h"
#include "cresco/formats/flat_tokens.h"

#include <cstdlib>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cresco;
  using namespace cresco::formats;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    const FlatTokenFile file(std::make_shared<const InputFile>("fuzz", bytes));
    const std::int64_t count = file.num_tokens();
    if (file.begin(0) != 0 || file.begin(file.num_sequences()) != count) std::abort();
    if (count > static_cast<std::int64_t>(size) / 2 || std::string(file.layout()).empty())
      std::abort();
    for (const std::int64_t first : {std::int64_t{0}, count / 2, count}) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(count - first));
      file.read(first, ids);
      for (const std::int32_t id : ids)
        if (id < 0) std::abort();
    }
    std::vector<std::int32_t> one(1);
    file.read(count, one);
    std::abort();  // nothing stands there
  } catch (const Error&) {
  }
  return 0;
}
