#include "cresco/report/html/blocks.h"

#include "cresco/report/escape.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

namespace cresco::report::html {
namespace {

constexpr std::size_t kMostTableRows = 100;

bool is_number(const std::string& cell) {
  return !cell.empty() && cell.find_first_not_of("0123456789+-.,eE–") == std::string::npos;
}

void write_rows(Markup& out, const artifacts::Table& table, std::size_t first, std::size_t last) {
  out.open("table").open("thead").open("tr");
  for (const std::string& column : table.columns()) {
    out.open("th", {{"scope", "col"}});
    write_name(out, column);
    out.close();
  }
  out.close().close().open("tbody").line_end();
  for (std::size_t i = first; i < last; ++i) {
    out.open("tr");
    for (const std::string& cell : table.row(i)) {
      if (is_number(cell)) {
        out.element("td", {{"class", "number"}}, cell);
      } else {
        out.open("td").open("bdi");
        write_name(out, cell);
        out.close().close();
      }
    }
    out.close().line_end();
  }
  out.close().close();
}

}  // namespace

void write_caption(Markup& out, const std::string& title, const std::string& caption) {
  out.open("figcaption").element("h3", title);
  if (!caption.empty()) out.element("p", {{"class", "note"}}, caption);
  out.close().line_end();
}

void write_name(Markup& out, std::string_view text) {
  while (!text.empty()) {
    std::size_t end = text.find('_');
    end = end == std::string_view::npos ? text.size() : end + 1;
    out.text(text.substr(0, end));
    text.remove_prefix(end);
    if (!text.empty()) out.leaf("wbr");
  }
}

void write_table(Markup& out, const artifacts::Table& table) {
  out.open("div", {{"class", "scroll"}});
  write_rows(out, table, 0, table.num_rows());
  out.close();
}

void write_table_in_two(Markup& out, const artifacts::Table& table) {
  const std::size_t middle = (table.num_rows() + 1) / 2;
  out.open("div", {{"class", "scroll two"}});
  write_rows(out, table, 0, middle);
  write_rows(out, table, middle, table.num_rows());
  out.close();
}

void write_data(Markup& out, const artifacts::Table& table, const std::string& source) {
  if (table.columns().empty()) return;
  out.open("details", {{"class", "data"}});
  out.element("summary", fmt::format("Data: {} row{} of {}", whole_number(double(table.num_rows())),
                                     table.num_rows() == 1 ? "" : "s", source));
  if (table.num_rows() <= kMostTableRows) {
    write_table(out, table);
  } else {
    out.open("pre", {{"class", "csv"}, {"tabindex", "0"}});
    out.text(fmt::format("{}", fmt::join(table.columns(), ","))).line_end();
    for (std::size_t i = 0; i < table.num_rows(); ++i)
      out.text(fmt::format("{}", fmt::join(table.row(i), ","))).line_end();
    out.close();
  }
  out.close().line_end();
}

void write_json(Markup& out, const Json& value) {
  out.open("script", {{"type", "application/json"}})
      .raw(escape_script_json(value))
      .close()
      .line_end();
}

}  // namespace cresco::report::html
