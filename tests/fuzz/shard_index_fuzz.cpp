// Any bytes as an index of weight files: file names of the folder only, or an Error.
#include "cresco/base/require.h"
#include "cresco/formats/shard_index.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto index =
        cresco::formats::parse_shard_index({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const std::string& file : index.files)
      if (file.empty() || file == ".." || file.find('/') != std::string::npos) std::abort();
  } catch (const cresco::Error&) {
  }
  return 0;
}
