#include "cresco/report/escape.h"

#include "cresco/base/json.h"
#include "cresco/report/testing/demo_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::report {
namespace {

TEST(VisibleText, ShowsWhatHasNoShape) {
  EXPECT_EQ(visible_text("a\nb\tc\rd"), "a\\nb\\tc\\rd");
  EXPECT_EQ(visible_text(std::string_view("\0\x1b\x7f", 3)), "\\x00\\x1b\\x7f");
  EXPECT_EQ(visible_text("\u0085\u009f"), "\\u0085\\u009f");
  for (const char* hidden : {"\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a",
                             "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068",
                             "\u2069", "\ufeff", "\u00ad", "\U000e0041", "\uffff"})
    EXPECT_TRUE(visible_text(hidden).starts_with("\\u")) << visible_text(hidden);
  EXPECT_EQ(visible_text("\u202e"), "\\u202e");
}

TEST(VisibleText, ShowsBytesThatAreNotUtf8) {
  EXPECT_EQ(visible_text("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(visible_text("a\xe2\x80"), "a\\xe2\\x80");         // cut short
  EXPECT_EQ(visible_text("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(visible_text("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
}

TEST(VisibleText, LeavesLettersAlone) {
  for (const char* text : {"plain", "Ġthe", "שלום", "é", "日本語", "😀", "−"})
    EXPECT_EQ(visible_text(text), text);
}

TEST(EscapeHtml, LeavesNothingThatHtmlReads) {
  EXPECT_EQ(escape_html("<b a=\"1\" c='2'>&amp;"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
  for (const std::string& token : testing::hostile_tokens())
    EXPECT_EQ(escape_html(token).find_first_of("<>\"'"), std::string::npos) << token;
}

// Every single byte, and every pair with '<', gives valid text without markup.
TEST(EscapeHtml, HoldsForEveryByte) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = escape_html(std::string("<") + static_cast<char>(byte));
    EXPECT_EQ(text.find_first_of("<>\"'"), std::string::npos) << byte;
    EXPECT_EQ(visible_text(text), text) << byte;
  }
}

TEST(Shortened, CutsBetweenCharacters) {
  EXPECT_EQ(shortened("grün", 4), "grün");
  EXPECT_EQ(shortened("grün", 3), "grü…");
  EXPECT_EQ(shortened("a\nb", 3), "a\\n…");
  EXPECT_EQ(num_characters("grün…"), 5u);
}

TEST(EscapeScriptJson, CannotEndItsElement) {
  for (const std::string& token : testing::hostile_tokens()) {
    const std::string text = escape_script_json(Json{{"token", visible_text(token)}});
    EXPECT_EQ(text.find_first_of("<>&"), std::string::npos) << token;
    EXPECT_EQ(parse_json(text, "test")["token"], visible_text(token));
  }
  EXPECT_EQ(escape_script_json(Json("</script>\u2028\u2029")),
            "\"\\u003c/script\\u003e\\u2028\\u2029\"");
}

}  // namespace
}  // namespace cresco::report
