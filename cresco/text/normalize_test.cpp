#include "cresco/text/normalize.h"

#include "cresco/base/files.h"
#include "cresco/base/strings.h"
#include "cresco/text/unicode.h"

#include <gtest/gtest.h>

namespace cresco::text {
namespace {

std::string from_hex(std::string_view code_points) {
  std::string out;
  for (const std::string& hex : split(code_points, ' '))
    append_utf8(out, static_cast<char32_t>(std::stoul(hex, nullptr, 16)));
  return out;
}

TEST(Nfc, AgreesWithUnicodedata) {
  const std::string file = read_file(Path(CRESCO_TEST_DATA) / "text/nfc_samples.txt");
  int num_samples = 0;
  for (const std::string& line : split(file, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> parts = split(line, '\t');
    ASSERT_EQ(parts.size(), 2u);
    const std::string text = from_hex(parts[0]), expected = from_hex(parts[1]);
    EXPECT_EQ(nfc(text), expected) << line;
    EXPECT_EQ(nfc("x " + text + " y"), nfc("x " + expected + " y")) << line;
    EXPECT_EQ(nfc(expected), expected) << line;
    EXPECT_TRUE(!is_nfc_quick(text) || text == expected) << line;
    ++num_samples;
  }
  EXPECT_EQ(num_samples, 650);
}

TEST(Nfc, IsItsOwnNormalForm) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "a";
    append_utf8(text, c);
    text += "\u0323";
    const std::string once = nfc(text);
    ASSERT_EQ(nfc(once), once) << static_cast<std::uint32_t>(c);
  }
}

TEST(Nfc, ComposesEveryHangulSyllable) {
  for (char32_t c = 0xAC00; c < 0xAC00 + 11172; ++c) {
    const char32_t i = c - 0xAC00;
    std::string jamo, syllable;
    append_utf8(jamo, 0x1100 + i / 588);
    append_utf8(jamo, 0x1161 + i % 588 / 28);
    if (i % 28 != 0) append_utf8(jamo, 0x11A7 + i % 28);
    append_utf8(syllable, c);
    ASSERT_EQ(nfc(jamo), syllable);
  }
}

TEST(Nfc, LeavesOtherBytesAlone) {
  EXPECT_EQ(nfc("e\xFF\u0301"), "e\xFF\u0301");
  EXPECT_EQ(nfc("\xC3(e\u0301\x80"), "\xC3(\u00e9\x80");
  EXPECT_EQ(nfc(""), "");
}

TEST(Nfc, KnowsQuicklyThatPlainTextIsDone) {
  EXPECT_TRUE(is_nfc_quick("The café, наука, 日本語, हिन्दी, \U0001F642"));
  EXPECT_FALSE(is_nfc_quick("cafe\u0301"));
  EXPECT_FALSE(is_nfc_quick("\u212B"));
  EXPECT_FALSE(is_nfc_quick("a\u0F39\u0F71"));  // marks in the wrong order
}

}  // namespace
}  // namespace cresco::text
