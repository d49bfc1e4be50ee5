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

}  // namespace
}  // namespace cresco
