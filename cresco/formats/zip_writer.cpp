#include "cresco/formats/zip_writer.h"

#include "cresco/formats/zip.h"

#include <algorithm>

namespace cresco::formats {
namespace {

constexpr std::int64_t kSmall = 0xffffffff;  // from here on, sizes and positions take 64 bits
constexpr std::uint16_t kFlags = 0x0808;     // sizes follow the data; names are UTF-8

template <class Number>
void put(std::string& out, Number value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

// A header, padding up to the alignment, the bytes, then their sizes and CRC-32.
void ZipWriter::add(const std::string& name, std::initializer_list<Bytes> parts) {
  Entry entry{name, 0, 0, file_.size()};
  for (const Bytes part : parts) {
    entry.crc32 = crc32_of(as_text(part), entry.crc32);
    entry.bytes += static_cast<std::int64_t>(part.size());
  }
  const bool is_large = entry.bytes >= kSmall;
  std::string header;
  put(header, std::uint32_t{0x04034b50});
  put(header, static_cast<std::uint16_t>(is_large ? 45 : 20));
  put(header, kFlags);
  header.append(18, '\0');  // stored; no time; CRC-32 and sizes come after the data
  put(header, static_cast<std::uint16_t>(entry.name.size()));
  std::string extra;
  if (is_large) {
    put(extra, std::uint16_t{1});
    put(extra, std::uint16_t{16});
    put(extra, entry.bytes);
    put(extra, entry.bytes);
    std::fill_n(header.begin() + 18, 8, '\xff');
  }
  const auto begin = entry.begin + static_cast<std::int64_t>(header.size() + 2 + entry.name.size() +
                                                             extra.size() + 4);
  const auto padding =
      static_cast<std::uint16_t>((kZipAlignment - begin % kZipAlignment) % kZipAlignment);
  extra += "FB";
  put(extra, padding);
  extra.append(padding, 'Z');
  put(header, static_cast<std::uint16_t>(extra.size()));
  file_.write(header + entry.name + extra);
  for (const Bytes part : parts) file_.write(part);

  std::string after;
  put(after, std::uint32_t{0x08074b50});
  put(after, entry.crc32);
  for (int i = 0; i < 2; ++i) {
    if (is_large)
      put(after, entry.bytes);
    else
      put(after, static_cast<std::uint32_t>(entry.bytes));
  }
  file_.write(after);
  entries_.push_back(std::move(entry));
}

void ZipWriter::commit() {
  const std::int64_t begin = file_.size();
  for (const Entry& entry : entries_) {
    std::string record, extra;
    const auto small = [&](std::int64_t value) {
      if (value < kSmall) return static_cast<std::uint32_t>(value);
      put(extra, value);
      return static_cast<std::uint32_t>(kSmall);
    };
    const std::uint32_t bytes = small(entry.bytes), stored = small(entry.bytes);
    const std::uint32_t position = small(entry.begin);
    put(record, std::uint32_t{0x02014b50});
    put(record, std::uint16_t{0});
    put(record, static_cast<std::uint16_t>(extra.empty() ? 20 : 45));
    put(record, kFlags);
    record.append(6, '\0');  // stored; no time
    put(record, entry.crc32);
    put(record, stored);
    put(record, bytes);
    put(record, static_cast<std::uint16_t>(entry.name.size()));
    put(record, static_cast<std::uint16_t>(extra.empty() ? 0 : extra.size() + 4));
    record.append(10, '\0');  // no comment; disk 0; no attributes
    put(record, position);
    record += entry.name;
    if (!extra.empty()) {
      put(record, std::uint16_t{1});
      put(record, static_cast<std::uint16_t>(extra.size()));
      record += extra;
    }
    file_.write(record);
  }
  const std::int64_t end = file_.size(), size = end - begin;
  const auto count = static_cast<std::int64_t>(entries_.size());

  std::string tail;
  put(tail, std::uint32_t{0x06064b50});
  put(tail, std::int64_t{44});
  put(tail, std::uint16_t{45});
  put(tail, std::uint16_t{45});
  put(tail, std::uint64_t{0});  // disks
  put(tail, count);
  put(tail, count);
  put(tail, size);
  put(tail, begin);
  put(tail, std::uint32_t{0x07064b50});
  put(tail, std::uint32_t{0});
  put(tail, end);
  put(tail, std::uint32_t{1});
  put(tail, std::uint32_t{0x06054b50});
  put(tail, std::uint32_t{0});  // disks
  put(tail, static_cast<std::uint16_t>(std::min<std::int64_t>(count, 0xffff)));
  put(tail, static_cast<std::uint16_t>(std::min<std::int64_t>(count, 0xffff)));
  put(tail, static_cast<std::uint32_t>(std::min(size, kSmall)));
  put(tail, static_cast<std::uint32_t>(std::min(begin, kSmall)));
  put(tail, std::uint16_t{0});  // no comment
  file_.write(tail);
  file_.commit();
}

}  // namespace cresco::formats
