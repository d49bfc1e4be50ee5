#include "cresco/formats/zip.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

namespace cresco::formats {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr std::int64_t kEndBytes = 22, kEnd64Bytes = 56, kEnd64LocatorBytes = 20;
constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46;
constexpr std::int64_t kMostEntries = 1 << 20, kLargestDirectory = 128 << 20;
// Deflate's best is 258 bytes from two bits.
constexpr std::int64_t kBestRatio = 1032;

template <class Number>
Number number_at(std::string_view bytes, std::size_t at) {
  Number value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Directory {
  std::int64_t begin = 0, bytes = 0, entries = 0;
};

std::int64_t checked(std::uint64_t value, const std::string& where) {
  require(value <= INT64_MAX, "{}: a position or size of {} in the zip's directory", where, value);
  return static_cast<std::int64_t>(value);
}

// A field of 16 or 32 bits is the 64-bit record's own value or all ones.
void require_same(std::uint64_t small, std::uint64_t all_ones, std::uint64_t large,
                  const std::string& where) {
  require(small == all_ones || small == large,
          "{}: the zip's two end records disagree: {} and {}: a damaged file?", where, small,
          large);
}

// The end record stands last, before a comment of up to 64 KiB.
Directory find_directory(const InputFile& file, const std::string& where) {
  require(file.size() >= kEndBytes, "{}: {} bytes, too short for a zip", where, file.size());
  const std::int64_t tail_begin = std::max<std::int64_t>(0, file.size() - kEndBytes - 65535);
  const std::string tail = file.read_text(tail_begin, file.size() - tail_begin);
  std::size_t at = tail.size() - kEndBytes;
  while (number_at<std::uint32_t>(tail, at) != kEnd ||
         number_at<std::uint16_t>(tail, at + 20) != tail.size() - at - kEndBytes) {
    require(at > 0, "{}: the zip has no directory at its end: an incomplete copy?", where);
    --at;
  }
  const auto disk = number_at<std::uint16_t>(tail, at + 4);
  const auto directory_disk = number_at<std::uint16_t>(tail, at + 6);
  const auto disk_entries = number_at<std::uint16_t>(tail, at + 8);
  const auto entries = number_at<std::uint16_t>(tail, at + 10);
  const auto bytes = number_at<std::uint32_t>(tail, at + 12);
  const auto begin = number_at<std::uint32_t>(tail, at + 16);
  require(disk == directory_disk && (disk == 0 || disk == 0xffff) && disk_entries == entries,
          "{}: a zip in several parts is not read", where);

  std::int64_t end = tail_begin + static_cast<std::int64_t>(at);
  Directory directory{begin, bytes, entries};
  const bool has_64 =
      end >= kEnd64LocatorBytes + kEnd64Bytes &&
      number_at<std::uint32_t>(file.read_text(end - kEnd64LocatorBytes, 4), 0) == kEnd64Locator;
  if (has_64) {
    const std::string locator = file.read_text(end - kEnd64LocatorBytes, kEnd64LocatorBytes);
    const std::int64_t record = checked(number_at<std::uint64_t>(locator, 8), where);
    require(number_at<std::uint32_t>(locator, 4) == 0 && number_at<std::uint32_t>(locator, 16) <= 1,
            "{}: a zip in several parts is not read", where);
    require(record == end - kEnd64LocatorBytes - kEnd64Bytes,
            "{}: the zip's 64-bit end record is said to be at byte {}, expected at {}", where,
            record, end - kEnd64LocatorBytes - kEnd64Bytes);
    const std::string text = file.read_text(record, kEnd64Bytes);
    require(number_at<std::uint32_t>(text, 0) == kEnd64 && number_at<std::uint64_t>(text, 4) == 44,
            "{}: the zip's 64-bit end record is damaged", where);
    require(number_at<std::uint32_t>(text, 16) == 0 && number_at<std::uint32_t>(text, 20) == 0 &&
                number_at<std::uint64_t>(text, 24) == number_at<std::uint64_t>(text, 32),
            "{}: a zip in several parts is not read", where);
    directory = {checked(number_at<std::uint64_t>(text, 48), where),
                 checked(number_at<std::uint64_t>(text, 40), where),
                 checked(number_at<std::uint64_t>(text, 32), where)};
    require_same(begin, 0xffffffff, number_at<std::uint64_t>(text, 48), where);
    require_same(bytes, 0xffffffff, number_at<std::uint64_t>(text, 40), where);
    require_same(entries, 0xffff, number_at<std::uint64_t>(text, 32), where);
    end = record;
  }
  require(directory.begin <= end && directory.bytes == end - directory.begin,
          "{}: the zip's directory is said to be {} bytes at byte {}, but ends at byte {}: an "
          "incomplete copy, or something stands before the zip?",
          where, directory.bytes, directory.begin, end);
  require(directory.entries <= directory.bytes / static_cast<std::int64_t>(kCentralBytes) &&
              directory.entries <= kMostEntries && directory.bytes <= kLargestDirectory,
          "{}: the zip claims {} entries in a directory of {} bytes", where, directory.entries,
          directory.bytes);
  return directory;
}

void require_safe_name(const std::string& name, const std::string& where) {
  const auto refuse = [&](std::string_view why) {
    fail("{}: the zip's entry '{}' {}", where, escape_for_terminal(name), why);
  };
  if (name.empty()) refuse("has no name");
  if (name.find('\\') != std::string::npos || name.find('\0') != std::string::npos)
    refuse("has a character that no file name has");
  if (name[0] == '/' || (name.size() > 1 && name[1] == ':')) refuse("is an absolute path");
  for (const std::string& part : split(name, '/'))
    if (part == "..") refuse("leads out of its folder");
}

// The 64-bit values of an entry whose 32-bit fields are all ones: they stand in this order.
void read_zip64_field(std::string_view extra, ZipEntry& entry, bool has_bytes, bool has_stored,
                      bool has_begin, const std::string& what) {
  if (!has_bytes && !has_stored && !has_begin) return;
  while (extra.size() >= 4) {
    const auto id = number_at<std::uint16_t>(extra, 0);
    const std::size_t size = number_at<std::uint16_t>(extra, 2);
    extra.remove_prefix(4);
    if (size > extra.size()) break;
    if (id == 1) {
      std::string_view values = extra.substr(0, size);
      const auto next = [&](std::int64_t& value) {
        require(values.size() >= 8, "{}: lacks a 64-bit size or position", what);
        value = checked(number_at<std::uint64_t>(values, 0), what);
        values.remove_prefix(8);
      };
      if (has_bytes) next(entry.bytes);
      if (has_stored) next(entry.stored_bytes);
      if (has_begin) next(entry.begin);
      return;
    }
    extra.remove_prefix(size);
  }
  fail("{}: lacks its 64-bit sizes", what);
}

// One record of the central directory, taken off the front of `text`.
ZipEntry next_entry(std::string_view& text, const std::string& where) {
  require(text.size() >= kCentralBytes && number_at<std::uint32_t>(text, 0) == kCentralHeader,
          "{}: a record of the zip's directory is damaged", where);
  const std::size_t name_bytes = number_at<std::uint16_t>(text, 28);
  const std::size_t extra_bytes = number_at<std::uint16_t>(text, 30);
  const std::size_t all =
      kCentralBytes + name_bytes + extra_bytes + number_at<std::uint16_t>(text, 32);
  require(all <= text.size(), "{}: a record of the zip's directory ends past it", where);

  ZipEntry entry{.name = std::string(text.substr(kCentralBytes, name_bytes))};
  require_safe_name(entry.name, where);
  const std::string what =
      fmt::format("{}: the zip's entry '{}'", where, escape_for_terminal(entry.name));
  const auto flags = number_at<std::uint16_t>(text, 8), method = number_at<std::uint16_t>(text, 10);
  require((flags & (1 | 1 << 6 | 1 << 13)) == 0, "{}: is encrypted", what);
  require(method == 0 || method == 8, "{}: is compressed by method {}, only 8 (deflate) is read",
          what, method);
  entry.is_compressed = method == 8;
  entry.crc32 = number_at<std::uint32_t>(text, 16);
  entry.stored_bytes = number_at<std::uint32_t>(text, 20);
  entry.bytes = number_at<std::uint32_t>(text, 24);
  entry.begin = number_at<std::uint32_t>(text, 42);
  const auto disk = number_at<std::uint16_t>(text, 34);
  require(disk == 0 || disk == 0xffff, "{}: lies in another part of the zip", what);
  read_zip64_field(text.substr(kCentralBytes + name_bytes, extra_bytes), entry,
                   entry.bytes == 0xffffffff, entry.stored_bytes == 0xffffffff,
                   entry.begin == 0xffffffff, what);
  if (entry.is_compressed)
    require(entry.bytes / kBestRatio <= entry.stored_bytes,
            "{}: {} bytes are said to become {}, more than deflate can", what, entry.stored_bytes,
            entry.bytes);
  else
    require(entry.bytes == entry.stored_bytes, "{}: is stored, but has two sizes: {} and {}", what,
            entry.bytes, entry.stored_bytes);
  text.remove_prefix(all);
  return entry;
}

// Where the entry's bytes begin, from its own header.
void find_data(const InputFile& file, const Directory& directory, ZipEntry& entry) {
  const std::string what = fmt::format("{}: the zip's entry '{}'", file.path().string(),
                                       escape_for_terminal(entry.name));
  const std::int64_t header_bytes = static_cast<std::int64_t>(kLocalBytes + entry.name.size());
  require(entry.begin <= directory.begin - header_bytes,
          "{}: begins at byte {}, the directory at {}", what, entry.begin, directory.begin);
  const std::string header = file.read_text(entry.begin, header_bytes);
  require(number_at<std::uint32_t>(header, 0) == kLocalHeader &&
              number_at<std::uint16_t>(header, 26) == entry.name.size() &&
              std::string_view(header).substr(kLocalBytes) == entry.name &&
              number_at<std::uint16_t>(header, 8) == (entry.is_compressed ? 8 : 0),
          "{}: byte {} holds another header than the directory says", what, entry.begin);
  entry.offset = entry.begin + header_bytes + number_at<std::uint16_t>(header, 28);
  require(entry.offset <= directory.begin && entry.stored_bytes <= directory.begin - entry.offset,
          "{}: {} bytes at byte {} reach into the directory at byte {}", what, entry.stored_bytes,
          entry.offset, directory.begin);
}

void require_apart(const InputFile& file, const std::vector<ZipEntry>& entries) {
  std::vector<const ZipEntry*> in_order;
  for (const ZipEntry& entry : entries) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(),
            [](const ZipEntry* a, const ZipEntry* b) { return a->begin < b->begin; });
  for (std::size_t i = 1; i < in_order.size(); ++i)
    require(in_order[i]->begin >= in_order[i - 1]->offset + in_order[i - 1]->stored_bytes,
            "{}: the zip's entries '{}' and '{}' overlap", file.path().string(),
            escape_for_terminal(in_order[i - 1]->name), escape_for_terminal(in_order[i]->name));
}

// The first `num_bytes` of what an entry inflates to, or fewer when it ends before.
std::string inflated(const InputFile& file, const ZipEntry& entry, std::int64_t num_bytes,
                     const std::string& what) {
  z_stream stream{};
  require(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "{}: zlib has no memory", what);
  const std::unique_ptr<z_stream, int (*)(z_streamp)> end(&stream, inflateEnd);
  std::string out, input, chunk(1 << 16, '\0');
  std::int64_t at = 0;
  for (int status = Z_OK;
       status != Z_STREAM_END && static_cast<std::int64_t>(out.size()) < num_bytes;) {
    if (stream.avail_in == 0 && at < entry.stored_bytes) {
      input = file.read_text(entry.offset + at,
                             std::min<std::int64_t>(1 << 16, entry.stored_bytes - at));
      at += static_cast<std::int64_t>(input.size());
      stream.next_in = reinterpret_cast<Bytef*>(input.data());
      stream.avail_in = static_cast<uInt>(input.size());
    }
    const auto room =
        std::min<std::int64_t>(1 << 16, num_bytes - static_cast<std::int64_t>(out.size()));
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(room);
    status = inflate(&stream, Z_NO_FLUSH);
    require(status == Z_OK || status == Z_STREAM_END,
            "{}: its compressed bytes are damaged or end too early", what);
    out.append(chunk, 0, static_cast<std::size_t>(room) - stream.avail_out);
  }
  return out;
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(const InputFile& file) {
  const std::string where = file.path().string();
  const Directory directory = find_directory(file, where);
  const std::string records = file.read_text(directory.begin, directory.bytes);
  std::vector<ZipEntry> entries;
  std::set<std::string> names;
  std::string_view rest = records;
  for (std::int64_t i = 0; i < directory.entries; ++i) {
    ZipEntry entry = next_entry(rest, where);
    require(names.insert(entry.name).second, "{}: the zip has two entries '{}'", where,
            escape_for_terminal(entry.name));
    find_data(file, directory, entry);
    entries.push_back(std::move(entry));
  }
  require(rest.empty(), "{}: {} bytes follow the {} records of the zip's directory", where,
          rest.size(), directory.entries);
  require_apart(file, entries);
  std::erase_if(entries, [](const ZipEntry& e) { return e.name.ends_with('/') && e.bytes == 0; });
  return entries;
}

std::string read_zip_entry(const InputFile& file, const ZipEntry& entry, std::int64_t limit_bytes) {
  const std::string what = fmt::format("{}: the zip's entry '{}'", file.path().string(),
                                       escape_for_terminal(entry.name));
  require(entry.bytes <= limit_bytes, "{}: {} bytes, more than the {} allowed", what, entry.bytes,
          limit_bytes);
  // One byte more is asked for, to see that there is none.
  const std::string bytes = entry.is_compressed ? inflated(file, entry, entry.bytes + 1, what)
                                                : file.read_text(entry.offset, entry.bytes);
  require(static_cast<std::int64_t>(bytes.size()) == entry.bytes,
          "{}: holds {} {} bytes, the directory says {}", what,
          static_cast<std::int64_t>(bytes.size()) > entry.bytes ? "more than" : "only",
          bytes.size(), entry.bytes);
  const std::uint32_t crc = crc32_of(bytes);
  require(crc == entry.crc32,
          "{}: its CRC-32 is {:08x}, the directory says {:08x}: a damaged file?", what, crc,
          entry.crc32);
  return bytes;
}

std::string read_zip_entry_start(const InputFile& file, const ZipEntry& entry,
                                 std::int64_t num_bytes) {
  num_bytes = std::min(num_bytes, entry.bytes);
  if (!entry.is_compressed) return file.read_text(entry.offset, num_bytes);
  return inflated(file, entry, num_bytes,
                  fmt::format("{}: the zip's entry '{}'", file.path().string(),
                              escape_for_terminal(entry.name)));
}

std::uint32_t crc32_of(std::string_view bytes, std::uint32_t crc) {
  if (bytes.empty()) return crc;  // zlib takes a null pointer as the wish to begin anew
  return static_cast<std::uint32_t>(
      ::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace cresco::formats
