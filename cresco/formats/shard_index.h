// The index of weights that Hugging Face's libraries wrote in several files:
// model.safetensors.index.json, pytorch_model.bin.index.json. See docs/formats/safetensors.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

struct ShardIndex {
  std::map<std::string, std::string> file_of;  // tensor -> file name, without a folder
  std::vector<std::string> files;              // each once, in order of their names
  std::optional<std::int64_t> total_bytes;     // what the index says of itself; nobody keeps to it
};

// Error for names that lead out of the folder and for anything that is no index.
ShardIndex parse_shard_index(std::string_view json, const std::string& where);

}  // namespace cresco::formats
