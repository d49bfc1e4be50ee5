#include "cresco/base/strings.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco {
namespace {

TEST(Strings, ParseNumbersWhole) {
  EXPECT_EQ(parse_int("10e9", "tokens"), 10'000'000'000);
  EXPECT_EQ(parse_int("-3", "x"), -3);
  for (const char* bad : {"", "x", "1.5", "1e30", "12x", "nan", "0x10"})
    EXPECT_THROW(parse_int(bad, "x"), Error) << bad;
  EXPECT_DOUBLE_EQ(parse_double("5e-5", "lr"), 5e-5);
}

TEST(Strings, FindTheNearestName) {
  const std::vector<std::string> known{"lr", "l1_coefficient", "batch_size"};
  EXPECT_EQ(nearest_name("l1_coeficient", known), "l1_coefficient");
  EXPECT_EQ(nearest_name("quite_other", known), "");
}

TEST(Strings, ShowSizesAndTimes) {
  EXPECT_EQ(human_bytes(12'025'908'428.0), "11.2 GiB");
  EXPECT_EQ(human_count(498'000), "498k");
  EXPECT_EQ(human_duration(372), "00:06:12");
}

TEST(Strings, QuoteForTheShell) {
  EXPECT_EQ(shell_quoted("runs/a=1"), "runs/a=1");
  EXPECT_EQ(shell_quoted("it's $x"), "'it'\\''s $x'");
  EXPECT_EQ(shell_quoted(""), "''");
}

TEST(Strings, KnowValidUtf8) {
  EXPECT_EQ(utf8_length("a"), 1u);
  EXPECT_EQ(utf8_length("\xc3\xa9"), 2u);
  EXPECT_EQ(utf8_length("\xf0\x9f\x99\x82"), 4u);
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xff"})
    EXPECT_EQ(utf8_length(bad), 0u);
}

TEST(Strings, CannotDriveATerminal) {
  EXPECT_EQ(escape_for_terminal("a\x1b[31m\n\t\xff\xc2\x9b\xc3\xa9"),
            "a\\x1b[31m\\n\\t\\xff\\xc2\\x9b\xc3\xa9");
}

}  // namespace
}  // namespace cresco
