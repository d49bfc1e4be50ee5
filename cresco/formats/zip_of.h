// For tests: zips with exactly what is asked for, sound or not.
#pragma once

#include "cresco/formats/zip.h"

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

namespace cresco::formats {

struct ZipMember {
  std::string name, bytes;
  bool is_compressed = false;
};

inline std::string deflated(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(compressBound(bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// With `is_64`, all sizes and positions stand in the 64-bit records.
inline std::string zip_of(const std::vector<ZipMember>& members, bool is_64 = false) {
  std::string zip, directory;
  const auto put = [](std::string& out, auto value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  constexpr std::uint32_t kOnes = 0xffffffff;
  for (const ZipMember& member : members) {
    const std::string stored = member.is_compressed ? deflated(member.bytes) : member.bytes;
    const std::uint16_t method = member.is_compressed ? 8 : 0;
    const auto begin = static_cast<std::uint32_t>(zip.size());
    const auto size = static_cast<std::uint32_t>(stored.size());
    const auto full = static_cast<std::uint32_t>(member.bytes.size());
    const auto name_bytes = static_cast<std::uint16_t>(member.name.size());
    put(zip, std::uint32_t{0x04034b50});
    put(zip, std::uint16_t{20});
    put(zip, std::uint16_t{8});
    put(zip, method);
    zip.append(16, '\0');
    put(zip, name_bytes);
    put(zip, std::uint16_t{3});
    zip += member.name + "pad" + stored;

    put(directory, std::uint32_t{0x02014b50});
    put(directory, std::uint32_t{0x00140014});
    put(directory, std::uint16_t{8});
    put(directory, method);
    put(directory, std::uint32_t{0});
    put(directory, crc32_of(member.bytes));
    put(directory, is_64 ? kOnes : size);
    put(directory, is_64 ? kOnes : full);
    put(directory, name_bytes);
    put(directory, static_cast<std::uint16_t>(is_64 ? 28 : 0));
    directory.append(10, '\0');
    put(directory, is_64 ? kOnes : begin);
    directory += member.name;
    if (!is_64) continue;
    put(directory, std::uint32_t{0x00180001});
    put(directory, std::uint64_t{full});
    put(directory, std::uint64_t{size});
    put(directory, std::uint64_t{begin});
  }
  const std::uint64_t begin = zip.size(), count = members.size();
  zip += directory;
  if (is_64) {
    const std::uint64_t record = zip.size();
    put(zip, std::uint32_t{0x06064b50});
    put(zip, std::uint64_t{44});
    put(zip, std::uint32_t{0x002d002d});
    put(zip, std::uint64_t{0});
    put(zip, count);
    put(zip, count);
    put(zip, std::uint64_t{directory.size()});
    put(zip, begin);
    put(zip, std::uint32_t{0x07064b50});
    put(zip, std::uint32_t{0});
    put(zip, record);
    put(zip, std::uint32_t{1});
  }
  put(zip, std::uint32_t{0x06054b50});
  put(zip, std::uint32_t{0});
  put(zip, static_cast<std::uint16_t>(is_64 ? 0xffff : count));
  put(zip, static_cast<std::uint16_t>(is_64 ? 0xffff : count));
  put(zip, is_64 ? kOnes : static_cast<std::uint32_t>(directory.size()));
  put(zip, is_64 ? kOnes : static_cast<std::uint32_t>(begin));
  put(zip, std::uint16_t{0});
  return zip;
}

}  // namespace cresco::formats
