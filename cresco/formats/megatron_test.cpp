#include "cresco/formats/megatron.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace cresco::formats {
namespace {

// Documents of 0, 1, 2, ... tokens that count up through the whole file: a misplaced token shows.
void write_counting(const Path& prefix, TokenType type, int documents) {
  TokenFileWriter writer(prefix, type);
  std::int32_t next = 0;
  for (int size = 0; size < documents; ++size) {
    std::vector<std::int32_t> document(static_cast<std::size_t>(size));
    for (auto& id : document) id = next++;
    writer.append(document);
  }
  writer.commit();
}

TEST(TokenFile, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  for (const TokenType type : {TokenType::U16, TokenType::I32}) {
    write_counting(folder / "c", type, 20);
    const TokenFile file(folder / "c.bin");
    EXPECT_EQ(file.type(), type);
    EXPECT_EQ(file.num_sequences(), 20);
    EXPECT_EQ(file.num_tokens(), 190);
    std::vector<std::int32_t> ids(50);
    file.read(77, ids);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], 77 + i);
    EXPECT_THROW(file.read(150, ids), Error);
    EXPECT_EQ(file.begin(5), 10);
  }
}

TEST(TokenFile, RefusesIdsThatDoNotFit) {
  const TemporaryFolder folder;
  TokenFileWriter writer(folder / "c", TokenType::U16);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{65536}), Error);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{-1}), Error);
}

TEST(TokenFile, RefusesDamage) {
  const TemporaryFolder folder;
  write_counting(folder / "c", TokenType::U16, 4);
  const std::string idx = read_file(folder / "c.idx"), bin = read_file(folder / "c.bin");
  const auto refused = [&](const std::string& new_idx, const std::string& new_bin) {
    write_file(folder / "d.idx", new_idx);
    write_file(folder / "d.bin", new_bin);
    try {
      TokenFile file(folder / "d");
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  EXPECT_FALSE(refused(idx, bin));
  for (std::size_t n = 0; n < idx.size(); ++n) EXPECT_TRUE(refused(idx.substr(0, n), bin)) << n;
  EXPECT_TRUE(refused(idx + "x", bin));
  EXPECT_TRUE(refused(idx, bin.substr(1)));
  EXPECT_TRUE(refused(idx, bin + "xx"));
  const auto with = [&](std::size_t at, auto value) {
    std::string changed = idx;
    std::memcpy(changed.data() + at, &value, sizeof value);
    return changed;
  };
  EXPECT_TRUE(refused(with(9, std::uint64_t{2}), bin));               // version
  EXPECT_TRUE(refused(with(17, std::uint8_t{6}), bin));               // floats
  EXPECT_TRUE(refused(with(17, std::uint8_t{4}), bin));               // another width
  EXPECT_TRUE(refused(with(18, std::uint64_t{1} << 62), bin));        // sequences past the file
  EXPECT_TRUE(refused(with(34 + 4, std::int32_t{-1}), bin));          // a negative size
  EXPECT_TRUE(refused(with(34 + 16 + 8 * 2, std::int64_t{1}), bin));  // a pointer elsewhere
}

}  // namespace
}  // namespace cresco::formats
