// A corpus that was put in training order once: rows of one length, one after the other. Pythia's
// (document-00000-of-00020.bin ... document-00020-of-00020.bin) has rows of 2049 ids.
//
// Row i is bytes [row_bytes i, row_bytes (i + 1)) of all shards joined, so rows may straddle two of
// them. Only what is asked for is read, and shards that no asked row touches may be missing. As a
// source of tokens it is the rows of the shards from the first one on that are there.
// docs/formats/megatron.md has the layout.
#pragma once

#include "cresco/base/input_file.h"
#include "cresco/formats/megatron.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cresco::corpora {

// "document-00003-of-00020.bin" is ("document", 3, 20): the number after "of" is the last shard's,
// so there are 21.
struct ShardName {
  std::string stem;
  std::int64_t index = 0, last = 0;
};
std::optional<ShardName> parse_shard_name(const std::string& file_name);

class PreshuffledRows final : public formats::TokenSource {
 public:
  // `data` is the prefix of the shards, the name of one of them, or one plain .bin file. With a
  // <prefix>.idx beside them the type of the ids is the index's, else u16. `row_tokens` 0 is the
  // length that the index names, or 1 without one. `shard_bytes` is the size of every shard but the
  // last; 0 takes it from the first that is there. Error when sizes contradict each other, the
  // index or `row_tokens`.
  PreshuffledRows(const Path& data, std::int64_t row_tokens, std::int64_t shard_bytes = 0);

  std::int64_t row_tokens() const { return row_tokens_; }
  // Known when the last shard is there, or an index.
  std::optional<std::int64_t> num_rows() const { return num_rows_; }

  // Rows [first, first + count), count * row_tokens() ids. Error that names shard and byte when
  // they lie past the end or in a shard that is missing, before memory is taken.
  std::vector<std::int32_t> read_rows(std::int64_t first, std::int64_t count) const;

  // Which bytes of which files hold those rows.
  struct Part {
    Path file;
    std::int64_t shard = 0, first_byte = 0, num_bytes = 0;  // bytes of that shard
  };
  std::vector<Part> parts(std::int64_t first, std::int64_t count) const;

  std::int64_t num_tokens() const override { return num_tokens_; }
  void read(std::int64_t first, std::span<std::int32_t> out) const override;
  std::int64_t bytes_per_token() const override { return formats::token_bytes(type_); }
  std::string name() const override { return prefix_.string(); }
  const char* layout() const override { return "preshuffled"; }
  std::vector<Path> files() const override;
  std::string warning() const override;  // of shards that stand behind a gap

 private:
  void find_files(const Path& data);
  void check_shards(std::int64_t shard_bytes);
  std::int64_t last() const { return static_cast<std::int64_t>(sizes_.size()) - 1; }
  Path path_of(std::int64_t shard) const;
  std::int64_t num_first_shards() const;  // that are there, from the first one on
  // Bytes [byte, byte + num_bytes) of all shards joined, and those bytes as ids.
  std::vector<Part> parts_of_bytes(std::int64_t byte, std::int64_t num_bytes) const;
  void read_bytes(std::int64_t byte, std::span<std::int32_t> out) const;

  Path prefix_;  // without -NNNNN-of-MMMMM.bin
  bool is_sharded_ = false;
  std::vector<std::int64_t> sizes_;  // of each shard, in bytes; -1 where it is missing
  std::vector<std::unique_ptr<const InputFile>> shards_;  // opened; null where one is missing
  std::int64_t shard_bytes_ = 0, row_tokens_, row_bytes_ = 0, num_tokens_ = 0;
  std::optional<std::int64_t> num_rows_;
  formats::TokenType type_ = formats::TokenType::U16;
};

// Whether `data` is such a corpus and not a pair of .bin and .idx in no order yet: shards, a .bin
// without an index, or an index of rows that all have one length (by its first and last one, and
// by the size of the .bin).
bool is_preshuffled(const Path& data, std::int64_t row_tokens);

}  // namespace cresco::corpora
