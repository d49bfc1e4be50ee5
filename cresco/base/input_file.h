// A file that is read by position.
//
// Nothing is mapped: memory holds what was asked for and no more, and a file that somebody cuts
// short while it is read is an Error, where a mapping would end the process.
#pragma once

#include "cresco/base/files.h"

#include <string>

namespace cresco {

class InputFile {
 public:
  explicit InputFile(const Path& path);  // Error unless it is a regular file that can be read
  // The same over bytes in memory; `name` is for messages.
  InputFile(const std::string& name, std::string bytes);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const Path& path() const { return path_; }
  std::int64_t size() const { return size_; }  // in bytes, when it was opened

  // Bytes [offset, offset + out.size()), all of them. Safe from several threads. Error when they
  // lie outside the file, or when the file has become shorter.
  void read(std::int64_t offset, std::span<std::byte> out) const;
  std::string read_text(std::int64_t offset, std::int64_t num_bytes) const;

  // Error when the file was written to after it was opened (by its size and its time).
  void require_unchanged() const;

 private:
  Path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0, changed_ns_ = 0;
  std::string memory_;
};

}  // namespace cresco
