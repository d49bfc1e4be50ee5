#include "cresco/corpora/open_tokens.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/formats/megatron.h"

#include <gtest/gtest.h>

#include <numeric>

namespace cresco::corpora {
namespace {

std::string counting_bytes(std::uint16_t count) {
  std::vector<std::uint16_t> ids(count);
  std::iota(ids.begin(), ids.end(), std::uint16_t{0});
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * 2};
}

void write_pair(const Path& prefix, std::int64_t sequences, std::int32_t size) {
  formats::TokenFileWriter writer(prefix, formats::TokenType::U16);
  for (std::int64_t i = 0; i < sequences; ++i) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(size));
    std::iota(ids.begin(), ids.end(), static_cast<std::int32_t>(i) * size);
    writer.append(ids);
  }
  writer.commit();
}

void expect_layout(const Path& data, const std::string& layout, bool names_documents,
                   std::int64_t row_tokens = 0) {
  const auto tokens = open_tokens(data, row_tokens);
  EXPECT_EQ(tokens->layout(), layout) << data;
  EXPECT_EQ(tokens->names_documents(), names_documents) << data;
  EXPECT_EQ(tokens->num_tokens(), 40) << data;
  std::vector<std::int32_t> ids(35);
  tokens->read(5, ids);
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], static_cast<std::int32_t>(i) + 5);
}

TEST(OpenTokens, KnowsEachLayout) {
  const TemporaryFolder folder;
  write_pair(folder / "pair", 8, 5);
  for (const char* name : {"pair", "pair.bin", "pair.idx"})
    expect_layout(folder / name, "megatron", true);
  expect_layout(folder / "pair", "preshuffled", false, 5);
  EXPECT_THROW(open_tokens(folder / "pair", 6), Error);  // a pair, but not of such rows

  write_file(folder / "flat.bin", counting_bytes(40));
  write_file(folder / "train", counting_bytes(40));
  for (const char* name : {"flat", "flat.bin", "train"}) {
    expect_layout(folder / name, "flat u16", false);
    expect_layout(folder / name, "flat u16", false, 7);  // a rest that fills no row is no matter
  }

  write_file(folder / "part_1.bin", counting_bytes(40).substr(0, 22));
  write_file(folder / "part_2.bin", "");
  write_file(folder / "part_3.bin", counting_bytes(40).substr(22));
  expect_layout(folder / "part_*.bin", "flat u16", false);
  EXPECT_EQ(open_tokens(folder / "part_*.bin")->files().size(), 3U);
  EXPECT_THROW(open_tokens(folder / "parts_*.bin"), Error);
  std::vector<std::int32_t> beyond(2);
  EXPECT_THROW(open_tokens(folder / "part_*.bin")->read(39, beyond), Error);

  const std::string all = counting_bytes(40);
  write_file(folder / "d-00000-of-00001.bin", all.substr(0, 50));
  write_file(folder / "d-00001-of-00001.bin", all.substr(50));
  for (const char* name : {"d", "d-00000-of-00001.bin", "d-00001-of-00001.bin"}) {
    expect_layout(folder / name, "preshuffled", false);
    expect_layout(folder / name, "preshuffled", false, 10);
  }
  EXPECT_THROW(open_tokens(folder / "d", 7), Error);
  EXPECT_THROW(open_tokens(folder / "nothing"), Error);
  EXPECT_THROW(open_tokens(folder.path()), Error);
  EXPECT_THROW(open_tokens(""), Error);
}

}  // namespace
}  // namespace cresco::corpora
