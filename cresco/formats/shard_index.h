// Weights that Hugging Face's libraries wrote into one folder: one file, or several with an index
// (model.safetensors.index.json, pytorch_model.bin.index.json). See docs/formats/safetensors.md.
#pragma once

#include "cresco/formats/stored_tensor.h"

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

struct FolderWeights {
  std::vector<Path> files;            // that hold the tensors, without the index
  std::vector<StoredTensor> tensors;  // in order of files; from an index, those that it names
  std::vector<StoredTensor> extra;    // in the files, but not where the index says, or not in it
  std::optional<std::int64_t> total_bytes;  // as in ShardIndex
};

// All files of an index. Error when one is missing, or lacks a tensor that it should hold.
FolderWeights read_shards(const Path& index);

// The tensors of one weight file: .safetensors, or what torch.save wrote.
std::vector<StoredTensor> read_weight_file(const Path& path);

// The folder's weights: model.safetensors, its index, pytorch_model.bin or its index, whichever is
// found first. Error when none is there.
FolderWeights read_folder_weights(const Path& folder);

}  // namespace cresco::formats
