#include "cresco/corpora/preshuffled.h"

#include "cresco/base/input_file.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/flat_tokens.h"

#include <algorithm>

namespace cresco::corpora {
namespace {

constexpr std::int64_t kMaxShardBytes = std::int64_t{1} << 44;

bool is_number(std::string_view text) {
  return text.size() == 5 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// The number of the last shard of those that begin with `stem`, or nothing. Error when shards of
// different sets lie together.
std::optional<std::int64_t> find_last(const Path& folder, const std::string& stem) {
  std::optional<ShardName> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const auto shard = parse_shard_name(entry.path().filename().string());
    if (!shard || shard->stem != stem) continue;
    require(!found || found->last == shard->last,
            "{}: holds shards '{}' of {:05} and of {:05}: name one of them", folder.string(),
            escape_for_terminal(stem), found->last, shard->last);
    found = shard;
  }
  return found ? std::optional(found->last) : std::nullopt;
}

}  // namespace

std::optional<ShardName> parse_shard_name(const std::string& file_name) {
  constexpr std::size_t tail = std::string_view("-00000-of-00000.bin").size();
  if (file_name.size() <= tail) return std::nullopt;
  const std::string_view end = std::string_view(file_name).substr(file_name.size() - tail);
  const std::string_view index = end.substr(1, 5), last = end.substr(10, 5);
  if (end[0] != '-' || end.substr(6, 4) != "-of-" || end.substr(15) != ".bin" ||
      !is_number(index) || !is_number(last))
    return std::nullopt;
  return ShardName{file_name.substr(0, file_name.size() - tail), parse_int(index, "shard"),
                   parse_int(last, "shard")};
}

PreshuffledRows::PreshuffledRows(const Path& data, std::int64_t row_tokens,
                                 std::int64_t shard_bytes)
    : row_tokens_(row_tokens) {
  require_usage(row_tokens >= 0 && row_tokens <= (std::int64_t{1} << 30),
                "rows of {} tokens, expected 1 to 2^30", row_tokens);
  require_usage(shard_bytes >= 0 && shard_bytes <= kMaxShardBytes,
                "shards of {} bytes, expected 1 to 2^44, or 0 for what the files say", shard_bytes);
  find_files(data);
  check_shards(shard_bytes);

  const Path idx = prefix_.string() + ".idx";
  std::optional<InputFile> index;
  if (!is_sharded_ && !std::filesystem::exists(idx)) {
    const formats::FlatTokenFile flat(path_of(0));
    require(flat.layout() == std::string_view("flat u16"),
            "{}: has a header before its ids ({}), so it is no file of rows", flat.name(),
            flat.layout());
  }
  if (std::filesystem::exists(idx)) {
    index.emplace(idx);
    const formats::TokenIndexHeader header = formats::read_token_index_header(*index);
    type_ = header.type;
    num_rows_ = header.sequences;
    const std::int64_t size = num_rows_ > 0 ? formats::token_index_size(*index, 0) : 0;
    if (row_tokens_ == 0) row_tokens_ = size;
    require(size == row_tokens_ && size > 0,
            "{}: its first sequence has {} tokens, expected rows of {}: rows of another length, or "
            "a corpus in no order yet?",
            idx.string(), size, row_tokens_);
  }
  row_tokens_ = std::max<std::int64_t>(row_tokens_, 1);
  row_bytes_ = row_tokens_ * formats::token_bytes(type_);
  const std::int64_t room = std::ssize(sizes_) * shard_bytes_ / row_bytes_;
  require(!num_rows_ || *num_rows_ <= room,
          "{}: names {} rows of {} bytes, {} shards of {} bytes hold at most {}: another corpus's "
          "index?",
          idx.string(), num_rows_.value_or(0), row_bytes_, sizes_.size(), shard_bytes_, room);
  if (sizes_.back() >= 0) {  // the last shard says how much there is
    const std::int64_t total = last() * shard_bytes_ + sizes_.back();
    require(!num_rows_ || *num_rows_ == total / row_bytes_,
            "{}: names {} rows of {} bytes, the files hold {} bytes: another corpus's index?",
            idx.string(), num_rows_.value_or(0), row_bytes_, total);
    require(total > 0 && total % row_bytes_ == 0,
            "{}: {} bytes in all are no whole number of rows of {} ids of {} bytes: another "
            "length of rows, or an incomplete copy?",
            prefix_.string(), total, row_tokens_, formats::token_bytes(type_));
    num_rows_ = total / row_bytes_;
  }
  const std::int64_t there = num_first_shards();
  num_tokens_ = row_tokens_ * (there > last() ? num_rows_.value()
                                              : std::min(num_rows_.value_or(INT64_MAX),
                                                         there * shard_bytes_ / row_bytes_));
}

std::int64_t PreshuffledRows::num_first_shards() const {
  const auto missing =
      std::find_if(shards_.begin(), shards_.end(), [](const auto& file) { return !file; });
  return missing - shards_.begin();
}

std::vector<Path> PreshuffledRows::files() const {
  std::vector<Path> files;
  for (std::int64_t i = 0; i < num_first_shards(); ++i) files.push_back(path_of(i));
  if (const Path idx = prefix_.string() + ".idx"; std::filesystem::exists(idx))
    files.push_back(idx);
  return files;
}

std::string PreshuffledRows::warning() const {
  const std::int64_t first = num_first_shards();
  const auto behind = std::count_if(shards_.begin() + first, shards_.end(),
                                    [](const auto& file) { return !!file; });
  if (behind == 0) return {};
  return fmt::format("{} is missing: nothing is read of what stands behind it ({} of the shards)",
                     path_of(first).string(), behind);
}

// Fills in `prefix_`, `is_sharded_` and the size of each shard.
void PreshuffledRows::find_files(const Path& data) {
  const Path folder = data.has_parent_path() ? data.parent_path() : Path(".");
  std::optional<std::int64_t> last;
  if (const auto shard = parse_shard_name(data.filename().string())) {
    prefix_ = data.parent_path() / shard->stem;
    last = shard->last;
  } else {
    prefix_ = formats::token_file_prefix(data);
    if (!std::filesystem::exists(prefix_.string() + ".bin"))
      last = find_last(folder, prefix_.filename().string());
  }
  is_sharded_ = last.has_value();
  require(is_sharded_ || std::filesystem::exists(prefix_.string() + ".bin"),
          "{0}: neither {0}.bin nor shards {0}-NNNNN-of-MMMMM.bin are there", prefix_.string());
  sizes_.assign(static_cast<std::size_t>(last.value_or(0) + 1), -1);
  shards_.resize(sizes_.size());
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    const Path path = path_of(static_cast<std::int64_t>(i));
    if (!std::filesystem::exists(path)) continue;
    shards_[i] = std::make_unique<const InputFile>(path);
    sizes_[i] = shards_[i]->size();
  }
}

// All shards but the last have one size, which is `shard_bytes` unless that is 0.
void PreshuffledRows::check_shards(std::int64_t shard_bytes) {
  shard_bytes_ = shard_bytes;
  std::string from = "--shard-bytes";
  for (std::int64_t i = 0; i < last() && shard_bytes_ == 0; ++i)
    if (sizes_[static_cast<std::size_t>(i)] > 0) {
      shard_bytes_ = sizes_[static_cast<std::size_t>(i)];
      from = path_of(i).filename().string();
    }
  if (last() == 0 && sizes_[0] >= 0) shard_bytes_ = sizes_[0];
  require(shard_bytes_ > 0,
          "{}: only the last of {} shards is there; --shard-bytes is needed, the size of the "
          "others",
          prefix_.string(), sizes_.size());
  require(shard_bytes_ <= kMaxShardBytes, "{}: shards of {} bytes, expected at most 2^44",
          prefix_.string(), shard_bytes_);
  for (std::int64_t i = 0; i <= last(); ++i) {
    const std::int64_t size = sizes_[static_cast<std::size_t>(i)];
    require(size < 0 || (i < last() ? size == shard_bytes_ : size <= shard_bytes_),
            "{}: {} bytes, expected {}{} by {}: an incomplete copy?", path_of(i).string(), size,
            i < last() ? "" : "at most ", shard_bytes_, from);
  }
}

Path PreshuffledRows::path_of(std::int64_t shard) const {
  return is_sharded_ ? fmt::format("{}-{:05}-of-{:05}.bin", prefix_.string(), shard, last())
                     : prefix_.string() + ".bin";
}

std::vector<PreshuffledRows::Part> PreshuffledRows::parts(std::int64_t first,
                                                          std::int64_t count) const {
  const std::int64_t room = num_rows_.value_or((last() + 1) * shard_bytes_ / row_bytes_);
  require(first >= 0 && count > 0 && count <= room && first <= room - count,
          "{}: rows {} to {} are wanted, it has {}{}", prefix_.string(), first,
          first < INT64_MAX - count ? first + count - 1 : first, num_rows_ ? "" : "at most ", room);
  return parts_of_bytes(first * row_bytes_, count * row_bytes_);
}

std::vector<PreshuffledRows::Part> PreshuffledRows::parts_of_bytes(std::int64_t byte,
                                                                   std::int64_t num_bytes) const {
  std::vector<Part> parts;
  const std::int64_t end = byte + num_bytes;
  while (byte < end) {
    const std::int64_t shard = byte / shard_bytes_, offset = byte % shard_bytes_;
    const std::int64_t size = shard <= last() ? sizes_[static_cast<std::size_t>(shard)] : 0;
    const std::int64_t here = std::min(end - byte, shard_bytes_ - offset);
    const std::string name = path_of(shard).string();
    require(size >= 0, "{}: is missing, and row {} needs its byte {}", name, byte / row_bytes_,
            offset);
    require(offset + here <= size, "{}: has {} bytes, row {} needs its byte {}", name, size,
            (byte + here - 1) / row_bytes_, offset + here - 1);
    parts.push_back({name, shard, offset, here});
    byte += here;
  }
  return parts;
}

void PreshuffledRows::read_bytes(std::int64_t byte, std::span<std::int32_t> out) const {
  std::vector<std::byte> bytes(out.size() * static_cast<std::size_t>(formats::token_bytes(type_)));
  std::span<std::byte> left(bytes);
  for (const Part& part : parts_of_bytes(byte, std::ssize(bytes))) {
    const auto size = static_cast<std::size_t>(part.num_bytes);
    shards_[static_cast<std::size_t>(part.shard)]->read(part.first_byte, left.first(size));
    left = left.subspan(size);
  }
  formats::convert_tokens(type_, bytes, out, prefix_.string());
}

std::vector<std::int32_t> PreshuffledRows::read_rows(std::int64_t first, std::int64_t count) const {
  parts(first, count);  // that they are there, before memory is taken
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count * row_tokens_));
  read_bytes(first * row_bytes_, ids);
  return ids;
}

void PreshuffledRows::read(std::int64_t first, std::span<std::int32_t> out) const {
  require_inside(first, static_cast<std::int64_t>(out.size()));
  read_bytes(first * formats::token_bytes(type_), out);
}

bool is_preshuffled(const Path& data, std::int64_t row_tokens) {
  if (parse_shard_name(data.filename().string())) return true;
  const Path prefix = formats::token_file_prefix(data);
  if (!std::filesystem::exists(prefix.string() + ".idx") ||
      !std::filesystem::exists(prefix.string() + ".bin"))
    return true;
  const InputFile idx(prefix.string() + ".idx");
  const formats::TokenIndexHeader header = formats::read_token_index_header(idx);
  const std::int64_t n = header.sequences;
  return n > 0 && row_tokens > 0 && formats::token_index_size(idx, 0) == row_tokens &&
         formats::token_index_size(idx, n - 1) == row_tokens &&
         InputFile(prefix.string() + ".bin").size() / formats::token_bytes(header.type) /
                 row_tokens ==
             n;
}

}  // namespace cresco::corpora
