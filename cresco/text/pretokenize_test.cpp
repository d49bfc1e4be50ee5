#include "cresco/text/pretokenize.h"

#include "cresco/base/random.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cresco::text {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(Split split, std::string_view text) {
  Pieces out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(split, text, begin);
    if (end <= begin || end > text.size()) {
      ADD_FAILURE() << "a piece from " << begin << " to " << end;
      break;
    }
    out.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

TEST(Gpt2Split, CutsWordsNumbersAndMarks) {
  EXPECT_EQ(pieces(Split::Gpt2, "Hello, I am 42x"),
            (Pieces{"Hello", ",", " I", " am", " 42", "x"}));
  EXPECT_EQ(pieces(Split::Gpt2, "don't I'LL 's"),
            (Pieces{"don", "'t", " I", "'", "LL", " '", "s"}));
  EXPECT_EQ(pieces(Split::Gpt2, "we've'll"), (Pieces{"we", "'ve", "'ll"}));
  EXPECT_EQ(pieces(Split::Gpt2, "²½Ⅳ٣"), (Pieces{"²½Ⅳ٣"}));
  EXPECT_EQ(pieces(Split::Gpt2, "e\u0301a"), (Pieces{"e", "\u0301", "a"}));
}

TEST(Gpt2Split, GivesTheLastSpaceToTheWord) {
  EXPECT_EQ(pieces(Split::Gpt2, "a  b"), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(pieces(Split::Gpt2, "a \n\n b  "), (Pieces{"a", " \n\n", " b", "  "}));
  EXPECT_EQ(pieces(Split::Gpt2, "a\n\nb\n"), (Pieces{"a", "\n", "\n", "b", "\n"}));
  EXPECT_EQ(pieces(Split::Gpt2, "\u00A0x\u3000\u3000y"),
            (Pieces{"\u00A0", "x", "\u3000", "\u3000", "y"}));
}

TEST(Cl100kSplit, CutsAsTheExpressionDoes) {
  EXPECT_EQ(pieces(Split::Cl100k, "don't I'LL 'ſx"),
            (Pieces{"don", "'t", " I", "'LL", " '", "ſx"}));
  EXPECT_EQ(pieces(Split::Cl100k, "'ſx"), (Pieces{"'ſ", "x"}));
  EXPECT_EQ(pieces(Split::Cl100k, "1234567 89"), (Pieces{"123", "456", "7", " ", "89"}));
  EXPECT_EQ(pieces(Split::Cl100k, "\tx (y) \u00A0z"),
            (Pieces{"\tx", " (", "y", ")", " ", "\u00A0z"}));
  EXPECT_EQ(pieces(Split::Cl100k, "a \n \n  b;\r\n\nc"),
            (Pieces{"a", " \n \n", " ", " b", ";\r\n\n", "c"}));
  EXPECT_EQ(pieces(Split::Cl100k, "x   "), (Pieces{"x", "   "}));
}

TEST(NoSplit, IsOnePiece) { EXPECT_EQ(pieces(Split::None, "a b\nc"), (Pieces{"a b\nc"})); }

TEST(Split, KeepsEveryByteOfAnything) {
  RandomStream random(1, "pretokenize_test");
  const std::string_view alphabet =
      " \n\r\t'aStLl1.\xC2\xA0\xE3\x80\x80\xCC\x81\xFF\xF0\x9F\x98\x80";
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint64_t n = 1 + random.below(40); n > 0; --n)
      text += alphabet[random.below(alphabet.size())];
    for (const Split split : {Split::None, Split::Gpt2, Split::Cl100k}) {
      std::string together;
      for (const std::string& piece : pieces(split, text)) together += piece;
      ASSERT_EQ(together, text);
    }
  }
}

}  // namespace
}  // namespace cresco::text
