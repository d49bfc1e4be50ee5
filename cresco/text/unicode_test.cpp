#include "cresco/text/unicode.h"

#include <gtest/gtest.h>

#include <map>

namespace cresco::text {
namespace {

// As measured on Hugging Face's tokenizers 0.23, whose tables are at the level of Unicode 16.
TEST(Unicode, HasTheClassesOfUnicode16) {
  std::map<CharClass, int> count;
  for (char32_t c = 0; c < 0x110000; ++c) ++count[char_class(c)];
  EXPECT_EQ(count[CharClass::Letter], 141'028);
  EXPECT_EQ(count[CharClass::Number], 1'911);
  EXPECT_EQ(count[CharClass::Space], 25);
  int lower = 0, upper = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    lower += (properties(c) & kLowerBit) != 0;
    upper += (properties(c) & kUpperBit) != 0;
  }
  EXPECT_EQ(lower, 2'258);
  EXPECT_EQ(upper, 1'858);
}

TEST(Unicode, KnowsSomeCharactersByHeart) {
  for (const char32_t c : {U'\u00A0', U'\u0085', U'\u3000', U'\u2028'})
    EXPECT_EQ(char_class(c), CharClass::Space);
  // Not white space here, though other programs count them.
  for (const char32_t c : {char32_t{0x1C}, char32_t{0x1F}, U'\u200B', U'\u180E', U'\uFEFF'})
    EXPECT_EQ(char_class(c), CharClass::Other);
  for (const char32_t c : {U'²', U'½', U'Ⅳ', U'٣'}) EXPECT_EQ(char_class(c), CharClass::Number);
  EXPECT_EQ(char_class(U'\u1C89'), CharClass::Letter);  // new in Unicode 16
  EXPECT_EQ(char_class(U'\u0301'), CharClass::Other);   // marks are not letters
  EXPECT_TRUE(properties(U'\u0301') & kWordBit);
  EXPECT_TRUE(properties(U'_') & kWordBit);
  EXPECT_FALSE(properties(U'-') & kWordBit);
  for (const char32_t c : {U'a', U'é', U'я'}) EXPECT_TRUE(properties(c) & kLowerBit);
  for (const char32_t c : {U'A', U'É', U'Я'}) EXPECT_TRUE(properties(c) & kUpperBit);
  for (const char32_t c : {U'1', U'ǅ', U'ª', U'字'})
    EXPECT_FALSE(properties(c) & (kLowerBit | kUpperBit));
}

TEST(Utf8, GoesThereAndBackForEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    const Decoded decoded = decode(text);
    ASSERT_TRUE(decoded.valid);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(decoded.length, text.size());
  }
}

// The parts that Python's decode("utf-8", "replace") counts.
TEST(Utf8, ReplacesWhatIsNotValidPartByPart) {
  const std::pair<std::string, int> cases[] = {
      {"a\xFF\xFE", 2},       {"\xC3", 1},        {"\xE2\x82", 1},     {"\xE2\x82z", 1},
      {"\xED\xA0\x80", 3},    {"\xC0\xAF", 2},    {"\xF0\x9F\x98", 1}, {"\xF4\x90\x80\x80", 4},
      {"\xE0\x80\x80", 3},    {"ok \xC3\xA9", 0}, {"\x80", 1},         {"\xF8\x88\x80\x80\x80", 5},
      {"\xE2\xE2\x82\xAC", 1}};
  for (const auto& [text, expected] : cases) {
    std::int64_t replaced = 0;
    const std::string out = replace_invalid_utf8(text, replaced);
    EXPECT_EQ(replaced, expected);
    EXPECT_TRUE(is_utf8(out));
    EXPECT_EQ(is_utf8(text), expected == 0);
  }
}

TEST(Utf8, FindsWhereAsciiEnds) {
  for (std::size_t n = 0; n < 40; ++n) {
    EXPECT_EQ(ascii_prefix(std::string(n, 'x')), n);
    EXPECT_EQ(ascii_prefix(std::string(n, 'x') + "\xC3\xA9 and more text"), n);
  }
}

}  // namespace
}  // namespace cresco::text
