#include "cresco/artifacts/event_file.h"

#include "cresco/base/require.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

namespace cresco::artifacts {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class Number>
std::string bytes_of(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}

// Protocol buffers' wire format: a field is its number and kind, then a varint (0), 8 bytes (1),
// length and bytes (2) or 4 bytes (5).
std::string varint(std::uint64_t number) {
  std::string out;
  for (; number >= 128; number >>= 7) out += static_cast<char>(number | 128);
  return out + static_cast<char>(number);
}
std::string key(int field, int kind) {
  return varint(static_cast<std::uint64_t>(field << 3 | kind));
}
std::string text_field(int field, std::string_view text) {
  return key(field, 2) + varint(text.size()) + std::string(text);
}

std::string event(double wall_time, std::int64_t step, const std::string& content) {
  return key(1, 1) + bytes_of(wall_time) + key(2, 0) + varint(static_cast<std::uint64_t>(step)) +
         content;
}

std::string checksum(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return bytes_of<std::uint32_t>(std::rotr(crc, 15) + 0xa282ead8U);
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
      made[i] = crc;
    }
    return made;
  }();
  std::uint32_t crc = ~0U;
  for (const char byte : bytes)
    crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(byte)) & 255];
  return ~crc;
}

EventFile::EventFile(const Path& path, const std::vector<Json>& lines, double started)
    : path_(path), started_(started) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  require(descriptor_ >= 0, "{}: cannot be written: {}", path.string(), std::strerror(errno));
  append(event(started, 0, text_field(3, "brain.Event:2")));
  for (const Json& line : lines) write(line);
}

EventFile::~EventFile() { ::close(descriptor_); }

void EventFile::write(const Json& line) {
  std::string summary;
  for (const auto& [name, value] : line.items())
    if (value.is_number() && name != "step" && name != "wall_time")
      summary += text_field(
          1, text_field(1, name) + key(2, 5) + bytes_of(static_cast<float>(value.get<double>())));
  append(event(started_ + line.value("wall_time", 0.0), line.value("step", std::int64_t{0}),
               text_field(5, summary)));
}

void EventFile::append(const std::string& event) {
  const std::string length = bytes_of<std::uint64_t>(event.size());
  const std::string record = length + checksum(length) + event + checksum(event);
  const auto written = ::write(descriptor_, record.data(), record.size());
  require(written == static_cast<ssize_t>(record.size()), "{}: cannot be written: {}",
          path_.string(), written < 0 ? std::strerror(errno) : "the disk is full");
}

}  // namespace cresco::artifacts
