#include "cresco/formats/flat_tokens.h"

#include "cresco/base/pattern.h"
#include "cresco/base/require.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

namespace cresco::formats {
namespace {

constexpr std::int64_t kHeaderBytes = 1024;  // 256 numbers of 32 bits

// The first number of llm.c's files. The low halves, read as ids of 16 bits, are 55238 and more:
// no token of GPT-2's or GPT-NeoX's vocabulary, so that no headerless file of theirs begins so.
constexpr std::int32_t kTokens16 = 20240520, kTokens32 = 20240801, kEvaluation = 20240522,
                       kModel = 20240326;

}  // namespace

FlatTokenFile::FlatTokenFile(const Path& path)
    : FlatTokenFile(std::make_shared<const InputFile>(path)) {}

FlatTokenFile::FlatTokenFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {
  const std::string where = name();
  const std::int64_t size = file_->size();
  const std::string start = file_->read_text(0, std::min<std::int64_t>(size, 12));
  require(!start.starts_with("\x93NUMPY"), "{}: is a NumPy array, not a file of token ids alone",
          where);
  // Archives of weights, which are called .bin, too.
  require(!start.starts_with("PK\x03\x04") && !start.starts_with("\x80\x02\x8a\x0a"),
          "{}: is an archive of torch.save, not a file of token ids alone; a damaged one?", where);
  require(!start.starts_with(kTokenIndexMagic), "{}: is a token index, its ids are in the .bin",
          where);
  std::array<std::int32_t, 3> header{};  // kind, version, how many ids
  if (start.size() == sizeof header) std::memcpy(header.data(), start.data(), sizeof header);
  const auto [kind, version, count] = header;
  require(kind != kEvaluation && kind != kModel, "{}: is llm.c's {}, not a file of token ids",
          where, kind == kModel ? "model" : "evaluation set");
  if (kind == kTokens16 || kind == kTokens32) {
    const std::int32_t expected = kind == kTokens16 ? 1 : 7;
    require(version == expected, "{}: llm.c's header says {} version {}, expected version {}",
            where, kind, version, expected);
    type_ = kind == kTokens16 ? TokenType::U16 : TokenType::I32;
    header_bytes_ = kHeaderBytes;
    num_tokens_ = count;
    const std::int64_t needed = kHeaderBytes + std::int64_t{count} * token_bytes(type_);
    require(count >= 0 && needed == size,
            "{}: {} bytes, but its header names {} ids of {} bytes, which need {}: an incomplete "
            "copy?",
            where, size, count, token_bytes(type_), needed);
    return;
  }
  require(size % 2 == 0,
          "{}: {} bytes are no whole number of 16-bit ids: an incomplete copy, or no token file?",
          where, size);
  num_tokens_ = size / 2;
}

const char* FlatTokenFile::layout() const {
  if (header_bytes_ == 0) return "flat u16";
  return type_ == TokenType::U16 ? "llm.c u16" : "llm.c u32";
}

void FlatTokenFile::read(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  require_inside(first, count);
  const std::int64_t width = token_bytes(type_);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * width));
  file_->read(header_bytes_ + first * width, bytes);
  convert_tokens(type_, bytes, out, name());
  if (type_ != TokenType::I32) return;
  for (const std::int32_t id : out)
    require(id >= 0, "{}: token id {} does not fit 31 bits", name(),
            static_cast<std::uint32_t>(id));
}

FlatTokenFiles::FlatTokenFiles(const Path& pattern) : pattern_(pattern), begin_{0} {
  for (const Path& path : files_matching(pattern)) {
    const FlatTokenFile& file = files_.emplace_back(path);
    require(std::string_view(file.layout()) == files_.front().layout(),
            "{}: is {}, {} is {}: files of one layout are needed", file.name(), file.layout(),
            files_.front().name(), files_.front().layout());
    begin_.push_back(begin_.back() + file.num_tokens());
  }
}

void FlatTokenFiles::read(std::int64_t first, std::span<std::int32_t> out) const {
  require_inside(first, static_cast<std::int64_t>(out.size()));
  auto next = std::upper_bound(begin_.begin(), begin_.end(), first);
  while (!out.empty()) {
    const auto part = std::min(static_cast<std::int64_t>(out.size()), *next - first);
    const auto i = static_cast<std::size_t>(next - begin_.begin() - 1);
    files_[i].read(first - begin_[i], out.first(static_cast<std::size_t>(part)));
    out = out.subspan(static_cast<std::size_t>(part));
    first += part;
    ++next;
  }
}

std::vector<Path> FlatTokenFiles::files() const {
  std::vector<Path> paths;
  for (const FlatTokenFile& file : files_) paths.push_back(file.files().front());
  return paths;
}

}  // namespace cresco::formats
