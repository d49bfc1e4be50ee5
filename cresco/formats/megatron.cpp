#include "cresco/formats/megatron.h"

#include "cresco/base/require.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace cresco::formats {
namespace {

constexpr std::size_t kHeaderBytes = 34;

template <class Number>
Number load(Bytes bytes, std::size_t at) {
  Number value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class Stored>
void convert(Bytes from, std::span<std::int32_t> out, const std::string& where) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, from.data() + i * sizeof value, sizeof value);
    if constexpr (sizeof(Stored) == 8)
      require(value >= 0 && value <= std::numeric_limits<std::int32_t>::max(),
              "{}: token id {} does not fit 32 bits", where, value);
    out[i] = static_cast<std::int32_t>(value);
  }
}

// `begin` is the file's first bytes, `size` all of them.
TokenIndexHeader parse_header(Bytes begin, std::uint64_t size, const std::string& where) {
  require(begin.size() >= kHeaderBytes &&
              as_text(begin.first(kTokenIndexMagic.size())) == kTokenIndexMagic,
          "{}: not a token index: it does not begin with MMIDIDX", where);
  const auto version = load<std::uint64_t>(begin, 9);
  require(version == kTokenIndexVersion, "{}: version {}, expected {}", where, version,
          kTokenIndexVersion);
  const auto code = load<std::uint8_t>(begin, 17);
  require(code == 1 || code == 2 || code == 3 || code == 4 || code == 5 || code == 8,
          "{}: type code {} is not one of whole numbers", where, code);
  const auto sequences = load<std::uint64_t>(begin, 18), documents = load<std::uint64_t>(begin, 26);
  const std::uint64_t room = size - kHeaderBytes;
  require(
      sequences <= room / 12 && documents <= (room - 12 * sequences) / 8 &&
          12 * sequences + 8 * documents == room,
      "{}: {} sequences and {} documents need another size than its {} bytes: an incomplete copy?",
      where, sequences, documents, size);
  return {static_cast<TokenType>(code), static_cast<std::int64_t>(sequences)};
}

}  // namespace

int token_bytes(TokenType type) {
  switch (type) {
    case TokenType::U8:
    case TokenType::I8:
      return 1;
    case TokenType::I16:
    case TokenType::U16:
      return 2;
    case TokenType::I32:
      return 4;
    case TokenType::I64:
      return 8;
  }
  return 0;
}

Path token_file_prefix(const Path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".idx" ? Path(path).replace_extension() : path;
}

TokenIndexHeader read_token_index_header(const InputFile& idx) {
  const std::string begin =
      idx.read_text(0, std::min<std::int64_t>(idx.size(), std::int64_t{kHeaderBytes}));
  return parse_header(as_bytes(begin), static_cast<std::uint64_t>(idx.size()), idx.path().string());
}

std::int32_t token_index_size(const InputFile& idx, std::int64_t i) {
  return load<std::int32_t>(as_bytes(idx.read_text(std::int64_t{kHeaderBytes} + 4 * i, 4)), 0);
}

void convert_tokens(TokenType type, Bytes bytes, std::span<std::int32_t> out,
                    const std::string& where) {
  switch (type) {
    case TokenType::U8:
      return convert<std::uint8_t>(bytes, out, where);
    case TokenType::I8:
      return convert<std::int8_t>(bytes, out, where);
    case TokenType::I16:
      return convert<std::int16_t>(bytes, out, where);
    case TokenType::U16:
      return convert<std::uint16_t>(bytes, out, where);
    case TokenType::I32:
      return convert<std::int32_t>(bytes, out, where);
    case TokenType::I64:
      return convert<std::int64_t>(bytes, out, where);
  }
}

TokenFile::TokenFile(const Path& path) : prefix_(token_file_prefix(path)) {
  const MappedFile idx(idx_path());
  bin_ = std::make_unique<MappedFile>(bin_path());
  const Bytes bytes = idx.bytes();
  const std::string where = idx_path().string();
  const TokenIndexHeader header = parse_header(bytes, bytes.size(), where);
  type_ = header.type;
  const auto sequences = static_cast<std::uint64_t>(header.sequences);

  const auto width = static_cast<std::uint64_t>(token_bytes(type_));
  std::uint64_t named = 0;  // no more than 2^31 times what fits the index's bytes
  for (std::uint64_t i = 0; i < sequences; ++i)
    named += load<std::uint32_t>(bytes, kHeaderBytes + 4 * i);
  require(named == 0 || bin_->size() == 0 || bin_->size() == named * width ||
              bin_->size() % named != 0 || bin_->size() / named > 8,
          "{}: its type {} is of {} bytes an id, but the {} ids of {} have {} bytes each: does the "
          "index belong to it?",
          where, static_cast<int>(type_), width, named, bin_path().string(),
          bin_->size() / std::max<std::uint64_t>(named, 1));
  require(bin_->size() % width == 0, "{}: {} bytes are no whole number of {}-byte tokens",
          bin_path().string(), bin_->size(), width);
  const std::uint64_t total = bin_->size() / width;
  begin_.reserve(sequences + 1);
  begin_.push_back(0);
  const std::size_t pointers = kHeaderBytes + 4 * sequences;
  for (std::uint64_t i = 0; i < sequences; ++i) {
    const auto size = load<std::int32_t>(bytes, kHeaderBytes + 4 * i);
    const auto pointer = load<std::int64_t>(bytes, pointers + 8 * i);
    const auto first = static_cast<std::uint64_t>(begin_.back());
    require(pointer == static_cast<std::int64_t>(first * width),
            "{}: sequence {} points to byte {}, the one before it ends at {}", where, i, pointer,
            first * width);
    require(size >= 0 && static_cast<std::uint64_t>(size) <= total - first,
            "{}: sequence {} has {} tokens, {} are left in {}", where, i, size, total - first,
            bin_path().string());
    begin_.push_back(begin_.back() + size);
  }
  require(static_cast<std::uint64_t>(begin_.back()) == total, "{}: names {} tokens, {} holds {}",
          where, begin_.back(), bin_path().string(), total);
}

void TokenFile::read(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  require(first >= 0 && count <= num_tokens() - first, "{}: tokens {} to {} asked for, it has {}",
          bin_path().string(), first, first + count, num_tokens());
  const auto width = static_cast<std::size_t>(token_bytes(type_));
  convert_tokens(type_,
                 bin_->bytes().subspan(static_cast<std::size_t>(first) * width, out.size() * width),
                 out, bin_path().string());
}

}  // namespace cresco::formats
