#include "cresco/base/json.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cresco {
namespace {

TEST(Json, RefusesWhatItShould) {
  for (const char* text :
       {"", "{", "{\"a\":1,\"a\":2}", "[1,]", "{} x", "{\"a\":\"\xff\"}", "nul", "1e999"})
    EXPECT_THROW(parse_json(text, "test"), Error) << text;
  EXPECT_THROW(parse_json(std::string(100000, '['), "test"), Error);
}

TEST(Json, KeepsNumbersExactly) {
  const double value = 0.1 + 0.2;
  EXPECT_EQ(parse_json(to_line(Json{{"x", value}}), "test")["x"].get<double>(), value);
  EXPECT_EQ(to_line(Json{{"b", 1}, {"a", 2}}), "{\"b\":1,\"a\":2}");  // in the order given
}

TEST(Json, NamesTheMissingKey) {
  try {
    get_int(Json{{"a", "x"}}, "hidden_size", "config.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "config.json: 'hidden_size' is missing");
  }
}

TEST(Json, SaysWhereSettingsDiffer) {
  const Json a{
      {"lr", 1}, {"model", {{"width", 4}, {"layers", 2}}}, {"rules", {1, 2}}, {"old", "x"}};
  const Json b{{"lr", 1}, {"model", {{"width", 8}, {"layers", 2}}}, {"rules", {1}}, {"new", true}};
  EXPECT_TRUE(differences(a, a).empty());
  std::vector<std::string> found;
  for (const Difference& d : differences(a, b)) found.push_back(to_text(d));
  EXPECT_EQ(found, (std::vector<std::string>{
                       "model.width was 4, now it is 8", "rules was [1,2], now it is [1]",
                       "old was x, now it is not set", "new was not set, now it is true"}));
  EXPECT_EQ(first_difference(a, b), found[0]);
}

}  // namespace
}  // namespace cresco
