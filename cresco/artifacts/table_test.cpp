#include "cresco/artifacts/table.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace cresco::artifacts {
namespace {

TEST(Table, SurvivesCsvUnchanged) {
  Table table({"step", "text", "value"});
  table.add(1, "a,\"b\"\nc", 0.1 + 0.2);
  table.add(2, "", std::nan(""));
  table.add(3, "\xff\r", 1e-300);
  const Table copy = parse_csv(to_csv(table), "test");
  EXPECT_EQ(copy.columns(), table.columns());
  EXPECT_EQ(copy.text(0, "text"), "a,\"b\"\nc");
  EXPECT_EQ(copy.number(0, "value"), 0.1 + 0.2);
  EXPECT_TRUE(std::isnan(copy.number(1, "value")));
  EXPECT_EQ(copy.text(2, "text"), "\xff\r");
  EXPECT_EQ(copy.numbers("step"), (std::vector<double>{1, 2, 3}));
}

TEST(Table, WritesFloatsWithTheDigitsOfFloats) {
  EXPECT_EQ(Table::cell(0.1f), "0.1");
  EXPECT_EQ(Table::cell(std::nanf("")), "");
  EXPECT_EQ(Table::cell(double{0.1f}), "0.10000000149011612");
}

TEST(Table, ReadsWindowsLineEnds) {
  const Table table = parse_csv("a,b\r\n1,2\r\n", "test");
  EXPECT_EQ(table.text(0, "b"), "2");
}

TEST(Table, RefusesDamage) {
  for (const char* text : {"", "a,a\n", "a,b\n1\n", "a\n\"x\n", "a\nx\"y\n"})
    EXPECT_THROW(parse_csv(text, "test"), Error) << text;
  const Table table = parse_csv("a\nx\n", "test");
  EXPECT_THROW(table.number(0, "a"), Error);
  EXPECT_THROW(table.text(0, "b"), Error);
}

TEST(Table, BecomesJsonOfWhatItsCellsSay) {
  Table table({"arm", "step", "loss", "note"});
  table.add("4", 20, 0.1 + 0.2, "");
  table.add("slow", 40, 1.0, "1e999 is no number");
  EXPECT_EQ(rows_json(table, {"arm"}),
            Json::parse(R"([{"arm": "4", "step": 20, "loss": 0.30000000000000004, "note": null},
                            {"arm": "slow", "step": 40, "loss": 1, "note": "1e999 is no number"}])"));
  EXPECT_EQ(rows_json(table)[0]["arm"], 4);
}

}  // namespace
}  // namespace cresco::artifacts
