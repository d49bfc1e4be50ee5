// Token ids one after the other, however they are stored.
#pragma once

#include "cresco/base/files.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cresco::formats {

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  virtual std::int64_t num_tokens() const = 0;
  // Copies `out.size()` ids from position `first`; safe from several threads. Error when they lie
  // outside, or one does not fit 32 bits.
  virtual void read(std::int64_t first, std::span<std::int32_t> out) const = 0;

  // Sequence i (for us: document i) is tokens [begin(i), begin(i + 1)). A file that does not say
  // where its documents are is one sequence.
  virtual std::int64_t num_sequences() const { return 1; }
  virtual std::int64_t begin(std::int64_t i) const { return i == 0 ? 0 : num_tokens(); }
  virtual bool names_documents() const { return false; }

  virtual std::int64_t bytes_per_token() const = 0;  // as they are stored
  virtual std::string name() const = 0;              // for messages
  virtual const char* layout() const = 0;            // "megatron", "flat u16", ...
  virtual std::vector<Path> files() const = 0;       // what it is made of
  // What a user should hear of before it is used, or "".
  virtual std::string warning() const { return {}; }

 protected:
  // Error when `count` ids from `first` on are not there.
  void require_inside(std::int64_t first, std::int64_t count) const;
};

}  // namespace cresco::formats
