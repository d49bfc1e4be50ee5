#include "cresco/formats/safetensors.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <numeric>

namespace cresco::formats {
namespace {

// A file in memory: the header's length, the header, the data.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), 8);
  return file + header + std::string(data_bytes, '\1');
}

std::string error_of(const std::string& file) {
  try {
    const SafetensorsFile read(std::make_shared<InputFile>("x", file));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::string one(const std::string& entry, std::size_t data_bytes) {
  return error_of(file_of("{\"a\":" + entry + "}", data_bytes));
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  std::vector<float> a(6);
  std::iota(a.begin(), a.end(), 0.5f);
  const std::vector<std::uint16_t> b{1, 2, 3};
  write_safetensors(folder / "t",
                    {{"b", DType::BF16, {3}, std::as_bytes(std::span(b))},
                     {"scalar", DType::F32, {}, std::as_bytes(std::span(a).first(1))},
                     {"a", DType::F32, {2, 3}, std::as_bytes(std::span(a))},
                     {"none", DType::I64, {0, 7}, {}}},
                    {{"model", "m"}});
  const SafetensorsFile file(folder / "t");
  EXPECT_EQ(file.metadata().at("model"), "m");
  EXPECT_EQ(file.tensor("a").shape, (std::vector<std::int64_t>{2, 3}));
  std::vector<float> read_back(6);
  read(file.tensor("a"), std::as_writable_bytes(std::span(read_back)));
  EXPECT_EQ(read_back, a);
  EXPECT_EQ(file.tensor("b").dtype, DType::BF16);
  EXPECT_EQ(file.tensor("none").num_bytes(), 0);
  // Aligned: the widest types first, and the data at a multiple of 8.
  EXPECT_EQ(file.tensor("none").offset % 8, 0);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_THROW(file.tensor("c"), Error);
}

// Sizes of 8 elements each: every type fills whole bytes.
TEST(Safetensors, ReadsEveryTypeInEveryShape) {
  const char* names[] = {"BOOL",    "F4",      "F6_E2M3", "F6_E3M2",     "U8",          "I8",
                         "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",
                         "U16",     "F16",     "BF16",    "I32",         "U32",         "F32",
                         "C64",     "F64",     "I64",     "U64"};
  EXPECT_EQ(std::size(names), static_cast<std::size_t>(DType::U64) + 1);
  for (const std::string name : names) {
    const DType dtype = dtype_named(name).value();
    EXPECT_EQ(name_of(dtype), name);
    const auto bytes = static_cast<std::size_t>(bits_of(dtype));
    const auto entry = [&](const char* shape, std::size_t size) {
      return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":[0,{}]}})", name, shape, size);
    };
    EXPECT_EQ(one(entry("[2,4]", bytes), bytes), "no error");
    EXPECT_EQ(one(entry("[0,9223372036854775807]", 0), 0), "no error");
    EXPECT_EQ(one(entry("[]", bytes / 8), bytes / 8) == "no error", bytes % 8 == 0) << name;
    EXPECT_NE(one(entry("[2,4]", bytes + 1), bytes + 1), "no error");
    const SafetensorsFile file(
        std::make_shared<InputFile>("x", file_of("{\"a\":" + entry("[2,4]", bytes) + "}", bytes)));
    std::vector<std::byte> numbers(bytes);
    read(file.tensor("a"), numbers);
    EXPECT_EQ(numbers.back(), std::byte{1});
  }
}

TEST(Safetensors, NoticesAFileThatChanges) {
  const TemporaryFolder folder;
  write_file(folder / "t", file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8));
  const SafetensorsFile file(folder / "t");
  std::vector<std::byte> numbers(8);
  read(file.tensor("a"), numbers);
  std::filesystem::resize_file(folder / "t", 20);
  EXPECT_THROW(read(file.tensor("a"), numbers), Error);
  EXPECT_THROW(file.tensor("a").file->require_unchanged(), Error);
}

TEST(Safetensors, ReadsTheSmallestFile) { EXPECT_EQ(error_of(file_of("{}      ", 0)), "no error"); }

TEST(Safetensors, RefusesDamage) {
  const std::string good = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  EXPECT_EQ(one(good, 8), "no error");
  EXPECT_NE(one(good, 7).find("incomplete copy"), std::string::npos);
  EXPECT_NE(one(good, 9).find("which has 9"), std::string::npos);
  EXPECT_NE(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", 8).find("needs 12"),
            std::string::npos);
  EXPECT_NE(one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})", 8).find("F33"),
            std::string::npos);
  EXPECT_NE(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", 8), "no error");
  EXPECT_NE(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", 8), "no error");
  EXPECT_NE(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", 8), "no error");
  EXPECT_NE(one(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})", 12), "no error");  // a hole
  EXPECT_NE(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})", 2), "no error");
  EXPECT_NE(one(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})", 0),
            "no error");
  EXPECT_NE(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})", 8), "no error");
  EXPECT_NE(one("3", 0), "no error");
  EXPECT_NE(error_of(file_of("{\"a\xff\":1}", 0)), "no error");  // not UTF-8
  EXPECT_NE(error_of(file_of("{\"a\":" + good + ",\"a\":" + good + "}", 8)), "no error");  // twice
  EXPECT_EQ(error_of(file_of(" {\"a\":" + good + "}   ", 8)), "no error");  // padding
  EXPECT_NE(error_of("short"), "no error");
  EXPECT_NE(error_of(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8)), "no error");
  EXPECT_NE(error_of(file_of("{", 0)), "no error");
  EXPECT_NE(error_of(file_of("[]", 0)), "no error");
  EXPECT_NE(error_of(file_of(R"({"__metadata__":{"a":1}})", 0)), "no error");
  EXPECT_NE(error_of(file_of(R"({"__metadata__":{},"__metadata__":{}})", 0)), "no error");
  const std::string two =
      R"({"a":)" + good + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  EXPECT_NE(error_of(file_of(two, 12)).find("begins at byte 4"), std::string::npos);  // an overlap
}

// Every prefix of a file, and every file with one byte changed, is read or refused: never a crash.
TEST(Safetensors, SurvivesEveryDamage) {
  const std::string good = file_of(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}})", 8);
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

TEST(Safetensors, WriterKeepsToItsHeader) {
  const TemporaryFolder folder;
  const float x = 1;
  SafetensorsWriter writer(folder / "t", {{"a", DType::F32, {1}, {}}, {"b", DType::F32, {2}, {}}});
  writer.write(std::as_bytes(std::span(&x, 1)));
  EXPECT_THROW(writer.commit(), Error);
  EXPECT_THROW(writer.write(std::as_bytes(std::span(&x, 1))), Error);
  EXPECT_THROW(
      write_safetensors(folder / "t", {{"a", DType::F32, {0}, {}}, {"a", DType::F32, {0}, {}}}),
      Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "t"));
}

}  // namespace
}  // namespace cresco::formats
