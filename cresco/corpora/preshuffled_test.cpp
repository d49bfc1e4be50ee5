#include "cresco/corpora/preshuffled.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

namespace cresco::corpora {
namespace {

// 12 rows of 5 u16 ids that count up: 120 bytes.
constexpr std::int64_t kRows = 12, kIds = 5;

std::string stream() {
  std::string bytes;
  for (std::uint16_t id = 0; id < kRows * kIds; ++id)
    bytes.append(reinterpret_cast<const char*>(&id), 2);
  return bytes;
}

// Shards of `size` bytes; rows of 10 bytes straddle them, and ids too when it is odd.
void write_shards(const Path& folder, std::size_t size) {
  const std::string all = stream();
  const std::size_t last = (all.size() - 1) / size;
  for (std::size_t i = 0; i <= last; ++i)
    write_file(folder / fmt::format("d-{:05}-of-{:05}.bin", i, last), all.substr(i * size, size));
}

void write_index(const Path& prefix, std::int64_t rows, std::int32_t ids) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  for (std::int64_t row = 0; row < rows; ++row)
    writer.append(std::vector<std::int32_t>(static_cast<std::size_t>(ids)));
  writer.commit();
  std::filesystem::remove(prefix.string() + ".bin");
}

void expect_rows(const PreshuffledRows& rows, std::int64_t first, std::int64_t count) {
  const auto ids = rows.read_rows(first, count);
  ASSERT_EQ(std::ssize(ids), count * kIds);
  for (std::size_t i = 0; i < ids.size(); ++i)
    EXPECT_EQ(ids[i], first * kIds + static_cast<std::int64_t>(i));
}

std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(PreshuffledRows, JoinsShardsWhereverTheyAreCut) {
  for (const std::size_t size : {7u, 10u, 32u, 33u, 119u, 120u, 500u}) {
    const TemporaryFolder folder;
    write_shards(folder / "", size);
    const PreshuffledRows rows(folder / "d", kIds);
    EXPECT_EQ(rows.num_rows(), kRows);
    for (std::int64_t first = 0; first < kRows; ++first)
      for (std::int64_t count = 1; count <= kRows - first; ++count) expect_rows(rows, first, count);
    EXPECT_THROW(rows.read_rows(kRows, 1), Error);
    EXPECT_THROW(rows.read_rows(0, kRows + 1), Error);
    EXPECT_THROW(rows.read_rows(-1, 1), Error);
    EXPECT_THROW(rows.read_rows(INT64_MAX, INT64_MAX), Error);
  }
}

TEST(PreshuffledRows, TakesAShardsNameOrOneFile) {
  const TemporaryFolder folder;
  write_shards(folder / "", 32);
  expect_rows(PreshuffledRows(folder / "d-00002-of-00003.bin", kIds), 0, kRows);
  write_file(folder / "e.bin", stream());
  for (const char* name : {"e", "e.bin"}) expect_rows(PreshuffledRows(folder / name, kIds), 3, 9);
  // With llm.c's header before them they are no rows.
  std::string header(1024, '\0');
  const std::int32_t fields[] = {20240520, 1, kRows * kIds};
  std::memcpy(header.data(), fields, sizeof fields);
  write_file(folder / "e.bin", header + stream());
  EXPECT_NE(message([&] { PreshuffledRows(folder / "e", 2); }).find("header"), std::string::npos);
}

TEST(PreshuffledRows, TakesTheTypeFromTheIndex) {
  const TemporaryFolder folder;
  formats::TokenFileWriter writer(folder / "d", formats::TokenType::I32);
  for (std::int32_t row = 0; row < kRows; ++row)
    writer.append(std::vector<std::int32_t>{70000 + row, 1, 2, 3, 4});
  writer.commit();
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).read_rows(7, 1)[0], 70007);
  EXPECT_TRUE(is_preshuffled(folder / "d", kIds));
  EXPECT_FALSE(is_preshuffled(folder / "d", 4));
}

// The rows of 33-byte shards: shard 1 is bytes 33 to 65, which rows 3 to 6 touch.
TEST(PreshuffledRows, NeedsOnlyTheShardsItReads) {
  const TemporaryFolder folder;
  write_shards(folder / "", 33);
  std::filesystem::remove(folder / "d-00001-of-00003.bin");
  const PreshuffledRows rows(folder / "d", kIds);
  expect_rows(rows, 0, 3);
  expect_rows(rows, 7, 5);
  for (const std::int64_t row : {3, 4, 5, 6})
    EXPECT_NE(message([&] { rows.read_rows(row, 1); }).find("d-00001-of-00003.bin: is missing"),
              std::string::npos)
        << row;
  // Without the last one, how many rows there are is known only from an index.
  std::filesystem::remove(folder / "d-00003-of-00003.bin");
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).num_rows(), std::nullopt);
  expect_rows(PreshuffledRows(folder / "d", kIds), 7, 2);
  EXPECT_THROW(PreshuffledRows(folder / "d", kIds).read_rows(11, 1), Error);
  EXPECT_THROW(PreshuffledRows(folder / "d", kIds).read_rows(INT64_MAX / 2, 1), Error);
  write_index(folder / "d", kRows, kIds);
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).num_rows(), kRows);
}

// As one stream: rows of the shards from the first on; what follows a gap does not count.
TEST(PreshuffledRows, IsASourceOfTokens) {
  const TemporaryFolder folder;
  write_shards(folder / "", 33);
  for (const std::int64_t row_tokens : {std::int64_t{0}, kIds}) {
    const PreshuffledRows all(folder / "d", row_tokens);
    EXPECT_EQ(all.num_tokens(), kRows * kIds);
    EXPECT_EQ(all.warning(), "");
    EXPECT_EQ(all.files().size(), 4u);
    std::vector<std::int32_t> ids(20);
    for (std::int64_t first = 0; first <= kRows * kIds - 20; ++first) {
      all.read(first, ids);
      for (std::size_t i = 0; i < ids.size(); ++i)
        EXPECT_EQ(ids[i], first + static_cast<std::int64_t>(i));
    }
    EXPECT_THROW(all.read(kRows * kIds - 19, ids), Error);
    EXPECT_THROW(all.read(-1, ids), Error);
  }
  write_index(folder / "d", kRows, kIds);
  EXPECT_EQ(PreshuffledRows(folder / "d", 0).row_tokens(), kIds);
  std::filesystem::remove(folder / "d-00002-of-00003.bin");  // 66 bytes are before it: 6 rows
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).num_tokens(), 6 * kIds);
  const std::string warning = PreshuffledRows(folder / "d", kIds).warning();
  EXPECT_NE(warning.find("d-00002-of-00003.bin is missing: "), std::string::npos);
  std::filesystem::remove(folder / "d-00003-of-00003.bin");
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).warning(), "");  // the first shards alone
  std::filesystem::remove(folder / "d-00000-of-00003.bin");
  EXPECT_EQ(PreshuffledRows(folder / "d", kIds).num_tokens(), 0);
}

TEST(PreshuffledRows, TakesTheShardSizeFromWhatIsThere) {
  const TemporaryFolder folder;
  write_shards(folder / "", 33);
  for (const int i : {0, 1})
    std::filesystem::remove(folder / fmt::format("d-0000{}-of-00003.bin", i));
  expect_rows(PreshuffledRows(folder / "d", kIds), 7, 5);
  std::filesystem::remove(folder / "d-00002-of-00003.bin");
  EXPECT_NE(message([&] { PreshuffledRows(folder / "d", kIds); }).find("--shard-bytes"),
            std::string::npos);
  expect_rows(PreshuffledRows(folder / "d", kIds, 33), 10, 2);
}

TEST(PreshuffledRows, RefusesSizesThatContradictEachOther) {
  const TemporaryFolder folder;
  write_shards(folder / "", 33);
  const Path second = folder / "d-00001-of-00003.bin", last = folder / "d-00003-of-00003.bin";
  const auto refused = [&](std::int64_t row_tokens = kIds, std::int64_t shard_bytes = 0) {
    return !message([&] { PreshuffledRows(folder / "d", row_tokens, shard_bytes); }).empty();
  };
  EXPECT_FALSE(refused());
  for (const std::int64_t row_tokens :
       {std::int64_t{-1}, std::int64_t{7}, std::int64_t{1} << 20, INT64_MAX})
    EXPECT_TRUE(refused(row_tokens)) << row_tokens;
  EXPECT_TRUE(refused(kIds, 30));
  EXPECT_TRUE(refused(kIds, -1));
  EXPECT_TRUE(refused(kIds, INT64_MAX));
  const std::string whole = read_file(second), tail = read_file(last);
  write_file(second, whole.substr(1));
  EXPECT_TRUE(refused());
  write_file(second, whole);
  write_file(last, tail + std::string(33, 'x'));
  EXPECT_TRUE(refused());
  write_file(last, tail + "x");
  EXPECT_TRUE(refused());
  write_file(last, tail);
  write_index(folder / "d", kRows, kIds);
  EXPECT_FALSE(refused());
  write_index(folder / "d", kRows + 1, kIds);
  EXPECT_TRUE(refused());
  write_index(folder / "d", kRows, kIds + 1);
  EXPECT_TRUE(refused());
  std::string idx = read_file(folder / "d.idx");
  const std::uint64_t lie = std::uint64_t{1} << 60;
  std::memcpy(idx.data() + 18, &lie, 8);
  write_file(folder / "d.idx", idx);
  EXPECT_TRUE(refused());
  std::filesystem::remove(folder / "d.idx");
  write_file(folder / "d-00000-of-00009.bin", "x");  // of another set
  EXPECT_TRUE(refused());
  EXPECT_TRUE(!message([&] { PreshuffledRows(folder / "nothing", kIds); }).empty());
}

}  // namespace
}  // namespace cresco::corpora
