// Tables: the CSV files that verbs write and the report reads.
//
// RFC 4180 with "\n" line ends: a first line of column names, cells quoted when they hold a comma,
// a quote or a line end. Numbers are written in their shortest exact form, NaN as an empty cell.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cresco::artifacts {

class Table {
 public:
  Table() = default;
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}

  // One cell per column: numbers or text.
  template <class... Cells>
  void add(const Cells&... cells) {
    add_row({cell(cells)...});
  }
  void add_row(std::vector<std::string> cells);  // Error when the count is not that of the columns

  const std::vector<std::string>& columns() const { return columns_; }
  std::size_t num_rows() const { return rows_.size(); }
  const std::vector<std::string>& row(std::size_t i) const { return rows_.at(i); }

  bool has(std::string_view column) const;
  const std::string& text(std::size_t row, std::string_view column) const;
  double number(std::size_t row, std::string_view column) const;  // an empty cell is NaN
  std::vector<double> numbers(std::string_view column) const;
  std::vector<std::string> texts(std::string_view column) const;

  static std::string cell(double value);
  static std::string cell(float value);  // exact as a float: fewer digits
  static std::string cell(std::int64_t value) { return std::to_string(value); }
  static std::string cell(int value) { return std::to_string(value); }
  static std::string cell(std::size_t value) { return std::to_string(value); }
  static std::string cell(std::string_view value) { return std::string(value); }
  static std::string cell(const std::string& value) { return value; }
  static std::string cell(const char* value) { return value; }

 private:
  std::size_t index(std::string_view column) const;

  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string to_csv(const Table& table);
// The rows as JSON objects: numbers as numbers, null for an empty cell. Columns of `texts` are
// text, whatever they look like.
Json rows_json(const Table& table, const std::vector<std::string>& texts = {});
void write_csv(const Path& path, const Table& table);
// Error with file and line for unbalanced quotes, ragged rows, a repeated column, or no header.
Table parse_csv(std::string_view text, const std::string& where);
Table read_csv(const Path& path);

}  // namespace cresco::artifacts
