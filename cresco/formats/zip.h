// The directory of a zip: what PyTorch's .pt files and NumPy's .npz files are made of. See
// docs/formats/torch.md.
#pragma once

#include "cresco/base/input_file.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

struct ZipEntry {
  std::string name;
  bool is_compressed = false;     // by deflate; otherwise the bytes lie in the file as they are
  std::int64_t begin = 0;         // of the local header, in the file
  std::int64_t offset = 0;        // of the entry's first byte, in the file
  std::int64_t stored_bytes = 0;  // in the file
  std::int64_t bytes = 0;         // when inflated
  std::uint32_t crc32 = 0;
};

// Every entry but folders, in order of the directory, Zip64 included. All numbers are the central
// directory's; of an entry's own header only signature, name and method are compared and the
// lengths read that say where its bytes begin. Error for names that stand twice or lead out of a
// folder, encryption, several disks, entries that overlap or leave the file, other methods than
// stored and deflate, and sizes that deflate cannot reach.
std::vector<ZipEntry> read_zip_directory(const InputFile& file);

// An entry's bytes, inflated when need be. Error when there are more than `limit_bytes`, more or
// fewer than the directory says, or their CRC-32 is another.
std::string read_zip_entry(const InputFile& file, const ZipEntry& entry, std::int64_t limit_bytes);

// At most the first `num_bytes` of an entry; the CRC-32 is not looked at.
std::string read_zip_entry_start(const InputFile& file, const ZipEntry& entry,
                                 std::int64_t num_bytes);

// CRC-32 as zip and gzip use it, of more bytes behind those that gave `crc` (0 for none).
std::uint32_t crc32_of(std::string_view bytes, std::uint32_t crc = 0);

}  // namespace cresco::formats
