#include "cresco/report/sections/build.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace cresco::report {

std::vector<const Source*> sources_with(const Sources& sources, const std::string& file) {
  std::vector<const Source*> found;
  for (const Source& source : sources)
    if (source.has(file)) found.push_back(&source);
  return found;
}

std::string from_files(const std::string& file, const std::vector<const Source*>& sources) {
  constexpr std::size_t kMostNamed = 3;
  if (sources.size() > kMostNamed) return fmt::format("{} of {} folders", file, sources.size());
  std::string names;
  for (std::size_t i = 0; i < sources.size(); ++i)
    names += (i == 0 ? "" : i + 1 == sources.size() ? " and " : ", ") + sources[i]->name;
  return fmt::format("{} of {}", file, names);
}

std::string figure_id(std::string_view kind, std::size_t index) {
  return index == 0 ? std::string(kind) : fmt::format("{}-{}", kind, index + 1);
}

std::string title_of(std::string_view title, const Source& source, std::size_t num_sources) {
  return num_sources == 1 ? std::string(title) : fmt::format("{} · {}", title, source.name);
}

std::vector<double> numbers_or_nan(const artifacts::Table& table, std::string_view column) {
  if (table.has(column)) return table.numbers(column);
  return std::vector<double>(table.num_rows(), std::numeric_limits<double>::quiet_NaN());
}

artifacts::Table rows_with(const artifacts::Table& table, std::string_view column) {
  artifacts::Table rows(table.columns());
  const std::vector<double> numbers = numbers_or_nan(table, column);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (std::isfinite(numbers[i])) rows.add_row(table.row(i));
  return rows;
}

double metric_of(const artifacts::Table& table, std::string_view metric) {
  for (std::size_t i = 0; i < table.num_rows(); ++i)
    if (table.text(i, "metric") == metric) return table.number(i, "value");
  return std::numeric_limits<double>::quiet_NaN();
}

std::set<double> five_of(const std::set<double>& steps) {
  if (steps.size() <= 5) return steps;
  const double low = std::log1p(*steps.begin()), high = std::log1p(*steps.rbegin());
  std::set<double> chosen{*steps.begin(), *steps.rbegin()};
  for (int i = 1; i <= 3; ++i) {
    double nearest = NAN, least = INFINITY;
    for (const double step : steps) {
      const double distance = std::abs(std::log1p(step) - (low + i / 4.0 * (high - low)));
      if (distance >= least || chosen.contains(step)) continue;
      nearest = step;
      least = distance;
    }
    chosen.insert(nearest);
  }
  return chosen;
}

}  // namespace cresco::report
