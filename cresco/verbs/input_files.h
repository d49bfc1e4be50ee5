// Files that a verb read, for its manifest.
#pragma once

#include "cresco/artifacts/manifest.h"

#include <cstdint>
#include <filesystem>
#include <vector>

namespace cresco::verbs {

// Hashed up to a gibibyte each: the Pile would take an hour. Larger ones are named with their size
// alone, in the fact `read_from_without_hash`.
inline void add_input_files(const std::vector<Path>& files, artifacts::Manifest& manifest) {
  constexpr std::uintmax_t kMostHashed = std::uintmax_t{1} << 30;
  for (const Path& file : files) {
    const std::uintmax_t size = std::filesystem::file_size(file);
    if (size <= kMostHashed)
      manifest.inputs.push_back(file);
    else
      manifest.facts["read_from_without_hash"][file.string()] = size;
  }
}

}  // namespace cresco::verbs
