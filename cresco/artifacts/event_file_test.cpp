#include "cresco/artifacts/event_file.h"

#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

namespace cresco::artifacts {
namespace {

TEST(EventFile, HasTheChecksumOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);  // the check value of CRC-32C (RFC 3720)
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
}

template <class Number>
Number number_at(const std::string& bytes, std::size_t at) {
  Number number;
  std::memcpy(&number, bytes.data() + at, sizeof(number));
  return number;
}

// A reader of protocol buffers: fields by number, in order.
std::multimap<int, std::string> fields_of(const std::string& message) {
  std::multimap<int, std::string> out;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t number = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(at++));
      number |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return number;
    }
  };
  while (at < message.size()) {
    const std::uint64_t key = varint();
    std::size_t length = key % 8 == 1 ? 8 : 4;
    std::string value;
    if (key % 8 == 0) {
      value = std::to_string(varint());
    } else {
      if (key % 8 == 2) length = varint();
      value = message.substr(at, length);
      at += length;
    }
    out.emplace(static_cast<int>(key / 8), value);
  }
  return out;
}

std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = number_at<std::uint64_t>(file, at);
    out.push_back(file.substr(at + 12, length));
    const std::uint32_t crc = crc32c(out.back());
    EXPECT_EQ(number_at<std::uint32_t>(file, at + 12 + length),
              ((crc >> 15 | crc << 17) + 0xa282ead8U));
    at += 16 + length;
  }
  return out;
}

TEST(EventFile, HoldsEveryNumberOfALine) {
  const TemporaryFolder folder;
  const Path path = folder / "tensorboard/events.out.tfevents.run";
  const Json first{{"step", 0}, {"wall_time", 0.5}, {"val/loss", 10.5}};
  {
    EventFile old(path, {}, 1000);
    old.write({{"step", 7}, {"val/loss", 1}});  // is cut by the next
  }
  {
    EventFile file(path, {first}, 2000);
    file.write(
        {{"step", 300}, {"wall_time", 2}, {"train/loss", 2.25}, {"note", "text"}, {"lr", 1}});
  }
  const auto records = records_of(read_file(path));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(fields_of(records[0]).find(3)->second, "brain.Event:2");
  const auto event = fields_of(records[2]);
  EXPECT_EQ(number_at<double>(event.find(1)->second, 0), 2002.0);
  EXPECT_EQ(event.find(2)->second, "300");
  std::map<std::string, float> scalars;
  const auto summary = fields_of(event.find(5)->second);
  for (const auto& [number, value] : summary) {
    const auto scalar = fields_of(value);
    scalars[scalar.find(1)->second] = number_at<float>(scalar.find(2)->second, 0);
  }
  EXPECT_EQ(scalars, (std::map<std::string, float>{{"train/loss", 2.25F}, {"lr", 1.F}}));
}

}  // namespace
}  // namespace cresco::artifacts
