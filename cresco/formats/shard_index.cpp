#include "cresco/formats/shard_index.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"

#include <nlohmann/json.hpp>

#include <set>

namespace cresco::formats {
namespace {

constexpr std::int64_t kLargestIndex = 64 << 20;

bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

}  // namespace

ShardIndex parse_shard_index(std::string_view json, const std::string& where) {
  const Json root = parse_json(json, where);
  require(root.is_object() && root.contains("weight_map") && root["weight_map"].is_object(),
          "{}: has no weight_map: not an index of weight files", where);
  ShardIndex index;
  std::set<std::string> files;
  for (const auto& [tensor, file] : root["weight_map"].items()) {
    require(file.is_string(), "{}: the file of '{}' is not a name", where,
            escape_for_terminal(tensor));
    const auto name = file.get<std::string>();
    require(is_file_name(name), "{}: the file of '{}' is '{}', which is no name in the folder",
            where, escape_for_terminal(tensor), escape_for_terminal(name));
    index.file_of[tensor] = name;
    files.insert(name);
  }
  require(!files.empty(), "{}: its weight_map is empty", where);
  index.files.assign(files.begin(), files.end());
  if (root.contains("metadata") && root["metadata"].is_object()) {
    const Json& metadata = root["metadata"];
    if (metadata.contains("total_size") && metadata["total_size"].is_number_unsigned() &&
        metadata["total_size"].get<std::uint64_t>() <= INT64_MAX)
      index.total_bytes = metadata["total_size"].get<std::int64_t>();
  }
  return index;
}

std::vector<StoredTensor> read_weight_file(const Path& path) {
  if (path.extension() == ".safetensors") return SafetensorsFile(path).tensors();
  return TorchFile(path).tensors();
}

FolderWeights read_shards(const Path& index_path) {
  const std::string where = index_path.string();
  const ShardIndex index = parse_shard_index(read_file(index_path, kLargestIndex), where);
  FolderWeights weights{.total_bytes = index.total_bytes};
  std::set<std::string_view> found;
  for (const std::string& name : index.files) {
    weights.files.push_back(index_path.parent_path() / name);
    require(std::filesystem::exists(weights.files.back()), "{}: names '{}', which is not there",
            where, escape_for_terminal(name));
    for (StoredTensor& tensor : read_weight_file(weights.files.back())) {
      const auto entry = index.file_of.find(tensor.name);
      const bool is_named = entry != index.file_of.end() && entry->second == name;
      if (is_named) found.insert(entry->first);
      (is_named ? weights.tensors : weights.extra).push_back(std::move(tensor));
    }
  }
  for (const auto& [tensor, file] : index.file_of)
    require(found.contains(tensor), "{}: '{}' should hold tensor '{}', but does not", where,
            escape_for_terminal(file), escape_for_terminal(tensor));
  return weights;
}

FolderWeights read_folder_weights(const Path& folder) {
  for (const std::string name : {"model.safetensors", "pytorch_model.bin"}) {
    const Path file = folder / name, index = folder / (name + ".index.json");
    if (std::filesystem::exists(file)) return {.files = {file}, .tensors = read_weight_file(file)};
    if (std::filesystem::exists(index)) return read_shards(index);
  }
  fail("{}: holds neither model.safetensors nor pytorch_model.bin, nor an index of one",
       folder.string());
}

}  // namespace cresco::formats
