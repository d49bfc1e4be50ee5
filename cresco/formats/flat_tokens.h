// One file of token ids and no index beside it: nanoGPT's (ids of 16 bits and nothing else) and
// llm.c's (a header of 1024 bytes, then ids of 16 or 32 bits). docs/formats/flat_tokens.md.
#pragma once

#include "cresco/base/input_file.h"
#include "cresco/formats/megatron.h"
#include "cresco/formats/token_source.h"

#include <memory>
#include <vector>

namespace cresco::formats {

class FlatTokenFile final : public TokenSource {
 public:
  // The layout is found by the first bytes, never by the name. Error for a header that the size
  // contradicts, for a file of another kind, and for a size that is no whole number of ids.
  explicit FlatTokenFile(const Path& path);
  explicit FlatTokenFile(std::shared_ptr<const InputFile> file);

  std::int64_t num_tokens() const override { return num_tokens_; }
  void read(std::int64_t first, std::span<std::int32_t> out) const override;
  std::int64_t bytes_per_token() const override { return token_bytes(type_); }
  std::string name() const override { return file_->path().string(); }
  const char* layout() const override;  // "flat u16" | "llm.c u16" | "llm.c u32"
  std::vector<Path> files() const override { return {file_->path()}; }

 private:
  std::shared_ptr<const InputFile> file_;
  std::int64_t num_tokens_ = 0, header_bytes_ = 0;
  TokenType type_ = TokenType::U16;  // I32 for ids of 32 bits without sign
};

// Several such files as one, the ids of each after those of the one before: what llm.c and
// modded-nanogpt call the shards of a data set.
class FlatTokenFiles final : public TokenSource {
 public:
  // Error for files of different layouts, and for none.
  explicit FlatTokenFiles(const Path& pattern);

  std::int64_t num_tokens() const override { return begin_.back(); }
  void read(std::int64_t first, std::span<std::int32_t> out) const override;
  std::int64_t bytes_per_token() const override { return files_.front().bytes_per_token(); }
  std::string name() const override { return pattern_.string(); }
  const char* layout() const override { return files_.front().layout(); }
  std::vector<Path> files() const override;

 private:
  Path pattern_;
  std::vector<FlatTokenFile> files_;
  std::vector<std::int64_t> begin_;  // of each file's ids, and the end of all
};

}  // namespace cresco::formats
