#include "cresco/artifacts/table_text.h"

#include <gtest/gtest.h>

namespace cresco::artifacts {
namespace {

TEST(TableText, AlignsColumnsAndShortensNumbers) {
  Table table({"member", "l1", "explained_variance"});
  table.add_row({"a", "1.0", "0.8351504724136692"});
  table.add_row({"longer", "0.1", ""});
  table.add_row({"1234567890", "12345678", "1.2345678e-07"});
  EXPECT_EQ(to_aligned_text(table),
            "member      l1        explained_variance\n"
            "a           1.0       0.83515\n"
            "longer      0.1\n"
            "1234567890  12345678  1.23457e-07\n");
}

TEST(TableText, KeepsControlCharactersFromTheTerminal) {
  Table table({"name"});
  table.add_row({"a\x1b[31m"});
  EXPECT_EQ(to_aligned_text(table).find('\x1b'), std::string::npos);
}

TEST(TableText, TurnsRowsIntoColumns) {
  Table table({"step", "a", "b"});
  table.add(200, 1, 2);
  table.add(400, 3, 4);
  const Table out = turned(table);
  EXPECT_EQ(out.columns(), (std::vector<std::string>{"step", "200", "400"}));
  ASSERT_EQ(out.num_rows(), 2u);
  EXPECT_EQ(out.row(1), (std::vector<std::string>{"b", "2", "4"}));
}

}  // namespace
}  // namespace cresco::artifacts
