#include "cresco/formats/shard_index.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <set>

namespace cresco::formats {
namespace {

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

}  // namespace cresco::formats
