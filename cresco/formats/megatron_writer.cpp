#include "cresco/base/require.h"
#include "cresco/formats/megatron.h"

#include <limits>

namespace cresco::formats {
namespace {

template <class Stored>
void append_as(std::span<const std::int32_t> ids, AtomicFile& file, const Path& path) {
  std::vector<Stored> stored(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && static_cast<std::int64_t>(ids[i]) <=
                               std::int64_t{std::numeric_limits<Stored>::max()},
            "{}: token id {} does not fit the file's {}-byte type", path.string(), ids[i],
            sizeof(Stored));
    stored[i] = static_cast<Stored>(ids[i]);
  }
  file.write(std::as_bytes(std::span(stored)));
}

}  // namespace

TokenType token_type_for(std::int64_t vocab_size) {
  return vocab_size < 65'500 ? TokenType::U16 : TokenType::I32;
}

TokenFileWriter::TokenFileWriter(const Path& prefix, TokenType type)
    : prefix_(token_file_prefix(prefix)), type_(type), bin_(prefix_.string() + ".bin") {
  require(type == TokenType::U16 || type == TokenType::I32,
          "{}: token files are written as U16 or I32", prefix.string());
}

void TokenFileWriter::append(std::span<const std::int32_t> document) {
  require(document.size() <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
          "{}: a document of {} tokens, the format allows 2^31 - 1", prefix_.string(),
          document.size());
  if (type_ == TokenType::U16)
    append_as<std::uint16_t>(document, bin_, prefix_);
  else
    append_as<std::int32_t>(document, bin_, prefix_);
  sizes_.push_back(static_cast<std::int32_t>(document.size()));
  num_tokens_ += static_cast<std::int64_t>(document.size());
}

void TokenFileWriter::commit() {
  AtomicFile idx(prefix_.string() + ".idx");
  const auto put = [&idx](const auto& value) { idx.write(std::as_bytes(std::span(&value, 1))); };
  const auto count = static_cast<std::uint64_t>(sizes_.size());
  idx.write(kTokenIndexMagic);
  put(kTokenIndexVersion);
  put(static_cast<std::uint8_t>(type_));
  put(count);
  put(count + 1);  // document boundaries, one more than documents
  idx.write(std::as_bytes(std::span(sizes_)));
  std::int64_t pointer = 0;
  for (const std::int32_t size : sizes_) {
    put(pointer);
    pointer += std::int64_t{size} * token_bytes(type_);
  }
  for (std::uint64_t i = 0; i <= count; ++i) put(static_cast<std::int64_t>(i));
  // An index that stood here before must not be read with the new tokens.
  std::error_code ignored;
  std::filesystem::remove(prefix_.string() + ".idx", ignored);
  bin_.commit();
  idx.commit();
}

}  // namespace cresco::formats
