#include "cresco/artifacts/table_text.h"

#include "cresco/base/strings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace cresco::artifacts {
namespace {

// Short ones and whole numbers stay as they are: "1.0" may be the name of a setting.
std::string shortened(const std::string& cell) {
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  const bool is_number = error == std::errc() && end == cell.data() + cell.size();
  if (!is_number || cell.find_first_of(".e") == std::string::npos) return escape_for_terminal(cell);
  constexpr std::size_t kShort = 8;
  return cell.size() <= kShort ? cell : fmt::format("{:.6g}", value);
}

}  // namespace

std::string to_aligned_text(const Table& table) {
  std::vector<std::vector<std::string>> rows{table.columns()};
  for (std::size_t i = 0; i < table.num_rows(); ++i) rows.push_back(table.row(i));
  std::vector<std::size_t> widths(table.columns().size());
  for (auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) {
      row[c] = shortened(row[c]);
      widths[c] = std::max(widths[c], row[c].size());
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c)
      line += fmt::format("{:<{}}", row[c], widths[c] + 2);
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

Table turned(const Table& table) {
  std::vector<std::string> columns{table.columns().at(0)};
  for (std::size_t i = 0; i < table.num_rows(); ++i) columns.push_back(table.row(i)[0]);
  Table out(columns);
  for (std::size_t c = 1; c < table.columns().size(); ++c) {
    std::vector<std::string> row{table.columns()[c]};
    for (std::size_t i = 0; i < table.num_rows(); ++i) row.push_back(table.row(i)[c]);
    out.add_row(std::move(row));
  }
  return out;
}

}  // namespace cresco::artifacts
