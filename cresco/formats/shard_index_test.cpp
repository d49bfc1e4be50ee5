#include "cresco/formats/shard_index.h"

#include "cresco/base/require.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace cresco::formats {
namespace {

TEST(ShardIndex, NamesEachFileOnce) {
  const ShardIndex index = parse_shard_index(
      R"({"metadata":{"total_size":12},"weight_map":{"a":"2.bin","c":"1.bin","b":"2.bin"}})", "x");
  EXPECT_EQ(index.files, (std::vector<std::string>{"1.bin", "2.bin"}));
  EXPECT_EQ(index.file_of.at("b"), "2.bin");
  EXPECT_EQ(index.total_bytes, 12);
}

TEST(ShardIndex, RefusesOtherNamesAndTexts) {
  const auto error_of = [](const std::string& text) {
    try {
      parse_shard_index(text, "x");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  for (const char* name : {"", ".", "..", "../a", "/a", "b/a", "b\\\\a", "a\\u0000"})
    EXPECT_NE(error_of(fmt::format(R"({{"weight_map":{{"t":"{}"}}}})", name))
                  .find("no name in the folder"),
              std::string::npos)
        << name;
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})",
                           R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":"b","a":"c"}})"})
    EXPECT_NE(error_of(text), "no error") << text;
  // Its total is no promise: others than whole numbers are passed over.
  EXPECT_EQ(parse_shard_index(R"({"metadata":{"total_size":1.5},"weight_map":{"a":"b"}})", "x")
                .total_bytes,
            std::nullopt);
  const std::string good = R"({"metadata":{"total_size":8},"weight_map":{"a":"b","c":"b"}})";
  EXPECT_EQ(parse_shard_index(good, "x").files, std::vector<std::string>{"b"});
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

}  // namespace
}  // namespace cresco::formats
