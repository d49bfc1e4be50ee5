// The inventory of a folder of dictionaries, such as the release's tree
//   <model>/<W_U|W_E>/cross-snapshot-<K>/d<D>/seed<S>.{safetensors,config.json,md}
// with whatever else lies in it. See docs/formats/dictionary_index.md.
#pragma once

#include "cresco/base/files.h"
#include "cresco/base/progress.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace cresco::dictionaries {

inline constexpr const char* kIndexFormat = "cresco-dictionary-index";
inline constexpr int kIndexVersion = 1;

struct IndexedFile {
  std::string path;  // from the folder of the tree, with '/'
  std::int64_t bytes = 0;
  std::string sha256;  // "" when it was not computed
};

struct IndexedDictionary {
  std::string path;  // of the .safetensors file, without its ending
  std::string kind, activation, model, matrix;
  std::vector<std::int64_t> steps;
  std::int64_t n_snapshots = 0, d_model = 0, d_sae = 0, seed = 0;
  // As the files say, and as somebody computed it again (null when nobody did).
  nlohmann::ordered_json quality, metrics_recomputed;
  std::vector<IndexedFile> files;
};

struct DictionaryIndex {
  std::vector<IndexedDictionary> dictionaries;  // in order of their paths
  std::vector<IndexedFile> other_files;
  struct Problem {
    std::string path, error;
  };
  std::vector<Problem> problems;  // dictionaries that cannot be read
};

// The .safetensors files below a folder that have a .config.json beside them, in order. Names that
// begin with '.' are left out, links to folders are not followed.
std::vector<Path> find_dictionaries(const Path& folder);

// From names, sizes and headers.
DictionaryIndex scan_dictionaries(const Path& folder);
// Fills in every file's SHA-256: reads all of them.
void hash_files(DictionaryIndex& index, const Path& folder, Progress& progress);

nlohmann::ordered_json index_json(const DictionaryIndex& index);
// Error for a file that is no index of ours, names that lead out of the folder, and negative sizes.
DictionaryIndex read_index(const Path& path);
bool is_index(const Path& path);  // whether it says that it is one

}  // namespace cresco::dictionaries
