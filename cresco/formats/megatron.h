// Token files of Megatron-LM and GPT-NeoX: <prefix>.bin holds the ids, <prefix>.idx where each
// sequence (for us: each document) lies. Byte by byte: docs/formats/megatron.md.
#pragma once

#include "cresco/base/files.h"
#include "cresco/base/input_file.h"
#include "cresco/formats/token_source.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::formats {

// Stored in the .idx file and fixed by Megatron-LM: never renumber. Its 6 and 7 are floats:
// refused.
enum class TokenType : std::uint8_t { U8 = 1, I8 = 2, I16 = 3, I32 = 4, I64 = 5, U16 = 8 };

constexpr std::string_view kTokenIndexMagic("MMIDIDX\0\0", 9);
constexpr std::uint64_t kTokenIndexVersion = 1;

int token_bytes(TokenType type);
// U16 below 65,500 entries, as Megatron-LM chooses; else I32.
TokenType token_type_for(std::int64_t vocab_size);

// What an index says of itself, checked against its size.
struct TokenIndexHeader {
  TokenType type = TokenType::U16;
  std::int64_t sequences = 0;
};
// For corpora whose .bin is elsewhere or in parts; reads the first bytes only.
TokenIndexHeader read_token_index_header(const InputFile& idx);
// How many tokens sequence i has, of an index that was checked.
std::int32_t token_index_size(const InputFile& idx, std::int64_t i);

// `bytes` hold `out.size()` stored ids, which are copied out as 32-bit numbers. Error with `where`
// for one that does not fit.
void convert_tokens(TokenType type, Bytes bytes, std::span<std::int32_t> out,
                    const std::string& where);

class TokenFile final : public TokenSource {
 public:
  // Maps both files and checks the index against its own size and against the .bin file's. `prefix`
  // may also be given as the .bin or .idx file's name.
  explicit TokenFile(const Path& prefix);

  const Path& prefix() const { return prefix_; }
  Path bin_path() const { return prefix_.string() + ".bin"; }
  Path idx_path() const { return prefix_.string() + ".idx"; }
  TokenType type() const { return type_; }
  std::int64_t num_sequences() const override {
    return static_cast<std::int64_t>(begin_.size()) - 1;
  }
  std::int64_t num_tokens() const override { return begin_.back(); }
  // Sequence i is tokens [begin(i), begin(i + 1)) of the file.
  std::int64_t begin(std::int64_t i) const override { return begin_[static_cast<std::size_t>(i)]; }

  // Copies `out.size()` ids from position `first`. Ids that do not fit 32 bits are an Error.
  void read(std::int64_t first, std::span<std::int32_t> out) const override;

  bool names_documents() const override { return true; }
  std::int64_t bytes_per_token() const override { return token_bytes(type_); }
  std::string name() const override { return prefix_.string(); }
  const char* layout() const override { return "megatron"; }
  std::vector<Path> files() const override { return {bin_path(), idx_path()}; }

 private:
  Path prefix_;
  std::unique_ptr<MappedFile> bin_;
  TokenType type_ = TokenType::U16;
  std::vector<std::int64_t> begin_;  // num_sequences() + 1 positions, in tokens
};

Path token_file_prefix(const Path& path);  // "x.bin" or "x.idx" -> "x"

// Appends documents one after the other; both files appear together at commit(), the index last.
class TokenFileWriter {
 public:
  TokenFileWriter(const Path& prefix, TokenType type);
  void append(std::span<const std::int32_t> document);  // Error for an id that the type can't hold
  void commit();

  std::int64_t num_tokens() const { return num_tokens_; }
  std::int64_t num_documents() const { return static_cast<std::int64_t>(sizes_.size()); }

 private:
  Path prefix_;
  TokenType type_;
  AtomicFile bin_;
  std::vector<std::int32_t> sizes_;
  std::int64_t num_tokens_ = 0;
};

}  // namespace cresco::formats
