// Writes a zip of stored entries, as PyTorch's .pt and NumPy's .npz files are, in one pass.
#pragma once

#include "cresco/base/files.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace cresco::formats {

// The bytes of each entry begin at a multiple of this.
constexpr std::int64_t kZipAlignment = 64;

class ZipWriter {
 public:
  explicit ZipWriter(const Path& path) : file_(path) {}
  // The entry's bytes are the parts one after the other.
  void add(const std::string& name, std::initializer_list<Bytes> parts);
  void commit();

 private:
  struct Entry {
    std::string name;
    std::uint32_t crc32 = 0;
    std::int64_t bytes = 0, begin = 0;
  };

  AtomicFile file_;
  std::vector<Entry> entries_;
};

}  // namespace cresco::formats
