#include "cresco/dictionaries/config_values.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::dictionaries {
namespace {

TEST(Config, RefusesOtherTypesAndTakesNullForMissing) {
  const Config config({{"text", "a"},
                       {"flag", true},
                       {"count", 3},
                       {"zero", 0},
                       {"null", nullptr},
                       {"below", {{"x", 1}}}},
                      "c.json");
  EXPECT_EQ(config.text("text"), "a");
  EXPECT_EQ(config.text("none", "b"), "b");
  EXPECT_EQ(config.text("null", "b"), "b");
  EXPECT_THROW(config.text("count"), Error);
  EXPECT_TRUE(config.flag("flag", false));
  EXPECT_TRUE(config.flag("null", true));
  EXPECT_THROW(config.flag("text", false), Error);
  EXPECT_THROW(config.flag("count", false), Error);
  EXPECT_EQ(config.positive("count"), 3);
  EXPECT_THROW(config.positive("zero"), Error);
  EXPECT_THROW(config.integer("text"), Error);
  EXPECT_EQ(config.object("below")["x"], 1);
  EXPECT_TRUE(config.object("null").empty());
  EXPECT_THROW(config.object("text"), Error);
  EXPECT_THROW(Config(Json::array(), "c.json"), Error);
  try {
    config.expect_size("count", 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "c.json: 'count' is 3, but the tensors have 4");
  }
}

}  // namespace
}  // namespace cresco::dictionaries
