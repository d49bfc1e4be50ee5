// Any bytes as a table: an Error, or one whose numbers are read (or refused) and that is read again
// from what is written of it.
#include "cresco/artifacts/table.h"
#include "cresco/base/require.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cresco;
  using namespace cresco::artifacts;
  try {
    const Table table = parse_csv({reinterpret_cast<const char*>(data), size}, "fuzz");
    const Table again = parse_csv(to_csv(table), "written");
    if (again.columns() != table.columns() || again.num_rows() != table.num_rows()) std::abort();
    for (std::size_t i = 0; i < table.num_rows(); ++i)
      if (again.row(i) != table.row(i)) std::abort();
    for (const std::string& column : table.columns()) {
      if (!table.has(column) || table.texts(column).size() != table.num_rows()) std::abort();
      try {
        for (const double number : table.numbers(column)) Table::cell(number);
      } catch (const Error&) {
      }
    }
    table.texts("another");
  } catch (const Error&) {
  }
  return 0;
}
