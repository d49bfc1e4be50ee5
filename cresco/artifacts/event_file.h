// TensorBoard's event file: what metrics.jsonl says, for those who watch runs there.
//
// A file is a list of records, each: length (u64), its checksum (u32), an Event of TensorFlow's
// event.proto, the Event's checksum (u32), little-endian; checksums are CRC-32C, turned right by 15
// bits and increased by 0xa282ead8. The first Event says "brain.Event:2", the others have
// wall_time, step and one scalar for each number of a line of metrics.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace cresco::artifacts {

class EventFile {
 public:
  // Writes the file anew with these lines: what a resumed run cut from metrics.jsonl is cut here,
  // too. A line's `wall_time` counts seconds from `started`, in seconds since 1970.
  EventFile(const Path& path, const std::vector<Json>& lines, double started);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void write(const Json& line);  // its numbers but step and wall_time

 private:
  void append(const std::string& event);

  Path path_;
  int descriptor_ = -1;
  double started_;
};

std::uint32_t crc32c(std::string_view bytes);

}  // namespace cresco::artifacts
