#include "cresco/formats/flat_tokens.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace cresco::formats {
namespace {

template <class Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

std::string header(std::int32_t kind, std::int32_t version, std::int32_t count) {
  std::vector<std::int32_t> numbers(256);
  numbers[0] = kind;
  numbers[1] = version;
  numbers[2] = count;
  return bytes_of(numbers);
}

FlatTokenFile open(const std::string& bytes) {
  return FlatTokenFile(std::make_shared<const InputFile>("flat", bytes));
}

std::string error_of(const std::string& bytes) {
  try {
    open(bytes);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

template <class Number>
std::vector<Number> counting(std::size_t n, Number first) {
  std::vector<Number> ids(n);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

void expect_counts(const FlatTokenFile& file, std::int64_t n, std::int64_t first) {
  EXPECT_EQ(file.num_tokens(), n);
  EXPECT_EQ(file.num_sequences(), 1);
  EXPECT_EQ(file.begin(1), n);
  for (std::int64_t at = 0; at <= n; ++at) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(n - at));
    file.read(at, ids);
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(ids[i], first + at + static_cast<std::int64_t>(i));
    ids.resize(ids.size() + 1);
    EXPECT_THROW(file.read(at, ids), Error);
    EXPECT_THROW(file.read(-1, std::span(ids).first(1)), Error);
    EXPECT_THROW(file.read(INT64_MAX, std::span(ids).first(1)), Error);
  }
}

TEST(FlatTokenFile, IsToldByItsFirstBytes) {
  const FlatTokenFile bare = open(bytes_of(counting<std::uint16_t>(20, 65'500)));
  EXPECT_STREQ(bare.layout(), "flat u16");
  expect_counts(bare, 20, 65'500);
  const FlatTokenFile gpt2 =
      open(header(20240520, 1, 20) + bytes_of(counting<std::uint16_t>(20, 65'500)));
  EXPECT_STREQ(gpt2.layout(), "llm.c u16");
  expect_counts(gpt2, 20, 65'500);
  const FlatTokenFile llama =
      open(header(20240801, 7, 20) + bytes_of(counting<std::uint32_t>(20, 128'000)));
  EXPECT_STREQ(llama.layout(), "llm.c u32");
  expect_counts(llama, 20, 128'000);
  expect_counts(open(""), 0, 0);
  expect_counts(open(bytes_of(counting<std::uint16_t>(1, 3))), 1, 3);
  expect_counts(open(header(20240520, 1, 0)), 0, 0);
}

TEST(FlatTokenFile, OpensAnyName) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors", bytes_of(counting<std::uint16_t>(7, 5)));
  const FlatTokenFile file(folder / "model.safetensors");
  expect_counts(file, 7, 5);
  EXPECT_EQ(file.files(), std::vector<Path>{folder / "model.safetensors"});
  EXPECT_THROW(FlatTokenFile(folder / "none"), Error);
  EXPECT_THROW(FlatTokenFile(folder.path()), Error);
}

TEST(FlatTokenFile, RefusesWhatContradictsItself) {
  const std::string ids = bytes_of(counting<std::uint16_t>(20, 5));
  EXPECT_NE(error_of(ids.substr(1)).find("39 bytes"), std::string::npos);
  const std::string whole = header(20240520, 1, 20) + ids;
  EXPECT_EQ(error_of(whole), "");
  for (std::size_t n = 12; n < whole.size(); ++n) EXPECT_NE(error_of(whole.substr(0, n)), "") << n;
  EXPECT_NE(error_of(whole + "xx").find("1066 bytes, but its header names 20 ids of 2"),
            std::string::npos);
  for (const std::int32_t count : {19, 21, 0, -20, INT32_MAX, INT32_MIN})
    EXPECT_NE(error_of(header(20240520, 1, count) + ids), "") << count;
  EXPECT_NE(error_of(header(20240520, 2, 20) + ids).find("version 2"), std::string::npos);
  EXPECT_NE(error_of(header(20240801, 7, 20) + ids), "");  // half of what 32-bit ids need
  EXPECT_EQ(error_of(header(20240801, 7, 10) + ids), "");
}

TEST(FlatTokenFile, RefusesFilesOfAnotherKind) {
  const std::string ids = bytes_of(counting<std::uint16_t>(20, 5));
  EXPECT_NE(error_of(header(20240522, 1, 20) + ids).find("evaluation set"), std::string::npos);
  EXPECT_NE(error_of(header(20240326, 3, 20) + ids).find("model"), std::string::npos);
  EXPECT_NE(error_of("\x93NUMPY\x01" + ids).find("NumPy"), std::string::npos);
  EXPECT_NE(error_of(std::string(kTokenIndexMagic) + ids).find("index"), std::string::npos);
}

TEST(FlatTokenFile, RefusesIdsOfMoreThan31Bits) {
  const FlatTokenFile file =
      open(header(20240801, 7, 2) + bytes_of(std::vector<std::uint32_t>{0x7fffffffu, 0x80000000u}));
  std::vector<std::int32_t> one(1);
  file.read(0, one);
  EXPECT_EQ(one[0], INT32_MAX);
  EXPECT_THROW(file.read(1, one), Error);
}

}  // namespace
}  // namespace cresco::formats
