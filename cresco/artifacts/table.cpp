#include "cresco/artifacts/table.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

namespace cresco::artifacts {

void Table::add_row(std::vector<std::string> cells) {
  require(cells.size() == columns_.size(), "table of {} columns was given a row of {} cells",
          columns_.size(), cells.size());
  rows_.push_back(std::move(cells));
}

std::string Table::cell(double value) {
  if (std::isnan(value)) return "";
  return fmt::format("{}", value);
}

std::string Table::cell(float value) {
  if (std::isnan(value)) return "";
  return fmt::format("{}", value);
}

bool Table::has(std::string_view column) const {
  return std::find(columns_.begin(), columns_.end(), column) != columns_.end();
}

std::size_t Table::index(std::string_view column) const {
  const auto found = std::find(columns_.begin(), columns_.end(), column);
  require(found != columns_.end(), "table has no column '{}'; it has {}", column,
          join(columns_, ", "));
  return static_cast<std::size_t>(found - columns_.begin());
}

const std::string& Table::text(std::size_t row, std::string_view column) const {
  return rows_.at(row)[index(column)];
}

double Table::number(std::size_t row, std::string_view column) const {
  const std::string& cell = text(row, column);
  if (cell.empty()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  require(error == std::errc() && end == cell.data() + cell.size(),
          "column '{}', row {}: '{}' is not a number", column, row + 1, escape_for_terminal(cell));
  return value;
}

std::vector<double> Table::numbers(std::string_view column) const {
  std::vector<double> values;
  for (std::size_t i = 0; i < num_rows(); ++i) values.push_back(number(i, column));
  return values;
}

std::vector<std::string> Table::texts(std::string_view column) const {
  const std::size_t at = index(column);
  std::vector<std::string> values;
  for (const auto& row : rows_) values.push_back(row[at]);
  return values;
}

namespace {

void append_cell(std::string& out, std::string_view cell) {
  if (cell.find_first_of(",\"\n\r") == std::string_view::npos) {
    out += cell;
    return;
  }
  out += '"';
  for (const char c : cell) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

void append_row(std::string& out, const std::vector<std::string>& cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) out += ',';
    append_cell(out, cells[i]);
  }
  // A row that is one empty cell would read as a blank line.
  if (cells.size() == 1 && cells[0].empty()) out += "\"\"";
  out += '\n';
}

// One row from `text`, which is shortened by it. `line` counts line ends for messages.
std::vector<std::string> take_row(std::string_view& text, std::size_t& line,
                                  const std::string& where) {
  std::vector<std::string> cells(1);
  const std::size_t first_line = line;
  bool quoted = false;
  std::size_t i = 0;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"') {
        cells.back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        cells.back() += '"';
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      require(cells.back().empty(), "{}: line {}: a quote inside an unquoted cell", where, line);
      quoted = true;
    } else if (c == ',') {
      cells.emplace_back();
    } else if (c == '\n') {
      break;
    } else if (c != '\r' || i + 1 == text.size() || text[i + 1] != '\n') {
      cells.back() += c;
    }
  }
  require(!quoted, "{}: line {}: a quoted cell has no end", where, first_line);
  text.remove_prefix(std::min(i + 1, text.size()));
  return cells;
}

// A cell as what it says: a number, text, or nothing.
Json value_of(const std::string& cell) {
  if (cell.empty()) return nullptr;
  const Json number = Json::parse(cell, nullptr, /*allow_exceptions=*/false);
  if (number.is_number()) return number;
  try {
    return parse_double(cell, "");
  } catch (const Error&) {
    return cell;
  }
}

}  // namespace

Json rows_json(const Table& table, const std::vector<std::string>& texts) {
  Json rows = Json::array();
  for (std::size_t i = 0; i < table.num_rows(); ++i) {
    Json row = Json::object();
    for (std::size_t c = 0; c < table.columns().size(); ++c) {
      const std::string &column = table.columns()[c], &cell = table.row(i)[c];
      const bool is_text = std::find(texts.begin(), texts.end(), column) != texts.end();
      row[column] = is_text && !cell.empty() ? Json(cell) : value_of(cell);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string to_csv(const Table& table) {
  std::string out;
  append_row(out, table.columns());
  for (std::size_t i = 0; i < table.num_rows(); ++i) append_row(out, table.row(i));
  return out;
}

void write_csv(const Path& path, const Table& table) { write_file(path, to_csv(table)); }

Table parse_csv(std::string_view text, const std::string& where) {
  require(!text.empty(), "{}: an empty file, expected a line of column names", where);
  std::size_t line = 1;
  Table table(take_row(text, line, where));
  std::set<std::string> names(table.columns().begin(), table.columns().end());
  require(names.size() == table.columns().size(), "{}: a column name stands twice", where);
  while (!text.empty()) {
    const std::size_t first_line = line;
    std::vector<std::string> cells = take_row(text, line, where);
    require(cells.size() == table.columns().size(),
            "{}: line {} has {} cells, the header has {} columns", where, first_line, cells.size(),
            table.columns().size());
    table.add_row(std::move(cells));
  }
  return table;
}

Table read_csv(const Path& path) { return parse_csv(read_file(path), path.string()); }

}  // namespace cresco::artifacts
