#include "cresco/text/added_tokens.h"

#include <gtest/gtest.h>

namespace cresco::text {
namespace {

// "a[3]b": text a, token 3, text b.
std::string split(const std::vector<AddedToken>& tokens, std::string_view text,
                  bool parse_special = true) {
  std::vector<std::string> patterns;
  for (const AddedToken& token : tokens) patterns.push_back(token.content);
  std::string out;
  AddedTokenMatcher(tokens, patterns)
      .split(
          text, parse_special, [&](std::string_view part) { out += "(" + std::string(part) + ")"; },
          [&](std::int32_t id) { out += std::to_string(id); });
  return out;
}

TEST(AddedTokens, TakesTheLeftmostThenLongest) {
  const std::vector<AddedToken> tokens{{1, "ab"}, {2, "abcd"}, {3, "bc"}, {4, "b"}};
  EXPECT_EQ(split(tokens, "xabcy"), "(x)1(cy)");
  EXPECT_EQ(split(tokens, "abcdabc"), "21(c)");
  EXPECT_EQ(split(tokens, "bcb"), "34");
  EXPECT_EQ(split(tokens, ""), "");
  EXPECT_EQ(split({}, "text"), "(text)");
}

TEST(AddedTokens, FindsRunsOfSpaces) {
  const std::vector<AddedToken> tokens{{4, "    "}, {3, "   "}, {2, "  "}};
  EXPECT_EQ(split(tokens, "a b  c         d"), "(a b)2(c)44( d)");
}

TEST(AddedTokens, StripsWhiteSpaceThatATokenAsksFor) {
  EXPECT_EQ(split({{1, "M", false, true, false}}, "a \n M b"), "(a)1( b)");
  EXPECT_EQ(split({{1, "M", false, false, true}}, "a M\u00A0 b"), "(a )1(b)");
  EXPECT_EQ(split({{1, "M", false, true, true}}, " M M "), "11");
}

TEST(AddedTokens, StandAloneWhenTheyHaveTo) {
  const std::vector<AddedToken> tokens{{1, "the", true}};
  EXPECT_EQ(split(tokens, "the bathe then -the- é the"), "1( bathe then -)1(- é )1");
  EXPECT_EQ(split(tokens, "ethe the\u0301 the_"), "(ethe the\u0301 the_)");
}

TEST(AddedTokens, LeavesSpecialTokensAsTextWhenAsked) {
  const std::vector<AddedToken> tokens{{0, "<end>", false, false, false, false, true},
                                       {1, "plain"}};
  EXPECT_EQ(split(tokens, "a<end>plain"), "(a)01");
  EXPECT_EQ(split(tokens, "a<end>plain", false), "(a<end>)1");
}

}  // namespace
}  // namespace cresco::text
