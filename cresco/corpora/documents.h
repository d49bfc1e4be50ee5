// Where text comes from, one document after the other.
#pragma once

#include "cresco/base/files.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cresco::corpora {

class Documents {
 public:
  virtual ~Documents() = default;
  // Puts the next document into `out`; false when there is none.
  virtual bool next(std::string& out) = 0;
  // Bytes of the sources read so far, and in all when known (0 otherwise): for progress.
  virtual std::int64_t bytes_read() const { return 0; }
  virtual std::int64_t bytes_total() const { return 0; }
};

// Files in the order given. A name that ends in .jsonl holds one document a line, the "text" of a
// JSON object; any other file is one document. Error for a file that is empty or looks binary (a
// NUL byte), and for a line without "text", with file and line.
std::unique_ptr<Documents> text_files(const std::vector<std::string>& paths);

std::unique_ptr<Documents> in_memory(std::vector<std::string> documents);

}  // namespace cresco::corpora
