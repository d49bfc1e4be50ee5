#include "cresco/corpora/english.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::corpora {
namespace {

TEST(WordNet, GivesLemmasAndGloss) {
  const auto documents = parse_wordnet(
      "  1 a licence line\n"
      "01234567 05 n 02 big_cat 0 cat(p) 1 002 @ 0 n 0000 ~ 1 n 0000 | a large feline; \"the big "
      "cats\"  \n",
      "data.noun");
  EXPECT_EQ(documents,
            (std::vector<std::string>{"big cat, cat: a large feline; \"the big cats\""}));
  EXPECT_THROW(parse_wordnet("01234567 05 n 02 x 0\n", "data"), Error);
  EXPECT_THROW(parse_wordnet("01234567 05 n zz x 0 | y\n", "data"), Error);
}

TEST(Bible, GivesOneDocumentAChapter) {
  const auto documents =
      parse_bible("\nJude 1\n\n  1 To them.\n  2 Mercy.\n\n3 John 1\n\n  1 The elder.\n");
  EXPECT_EQ(documents,
            (std::vector<std::string>{"Jude 1\n1 To them.\n2 Mercy.", "3 John 1\n1 The elder."}));
}

TEST(English, IsReadWhereItIsInstalled) {
  if (const std::string missing = missing_english(); !missing.empty()) GTEST_SKIP() << missing;
  EXPECT_EQ(read_bible().size(), 1189u);
  EXPECT_GT(read_wordnet().size(), 100'000u);
}

}  // namespace
}  // namespace cresco::corpora
