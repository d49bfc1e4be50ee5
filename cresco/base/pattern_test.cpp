#include "cresco/base/pattern.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

namespace cresco {
namespace {

TEST(Pattern, MatchesNames) {
  EXPECT_TRUE(matches("embed_out.*", "embed_out.weight"));
  EXPECT_TRUE(matches("*.bias", "a.b.bias"));
  EXPECT_TRUE(matches("*layers.*.mlp*", "gpt_neox.layers.3.mlp.x"));
  EXPECT_FALSE(matches("embed", "embed_out"));
  EXPECT_FALSE(matches("*x", "ab"));
  EXPECT_TRUE(matches("*", ""));
}

TEST(Pattern, FindsFilesInOrderOfTheirNames) {
  const TemporaryFolder folder;
  for (const char* name : {"train_000010.bin", "train_000002.bin", "val_000001.bin", "train.txt"})
    write_file(folder / name, "x");
  std::filesystem::create_directory(folder / "train_9.bin");
  EXPECT_TRUE(is_pattern(folder / "train_*.bin"));
  EXPECT_FALSE(is_pattern(folder / "train_000002.bin"));
  EXPECT_EQ(files_matching(folder / "train_*.bin"),
            (std::vector<Path>{folder / "train_000002.bin", folder / "train_000010.bin"}));
  EXPECT_EQ(files_matching(folder / "*").size(), 4U);
  EXPECT_THROW(files_matching(folder / "test_*.bin"), Error);
  EXPECT_THROW(files_matching(folder / "nowhere" / "*.bin"), Error);
}

}  // namespace
}  // namespace cresco
