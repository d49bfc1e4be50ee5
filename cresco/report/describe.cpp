#include "cresco/report/describe.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

bool shows(Scale scale, double value) {
  return std::isfinite(value) && (scale == Scale::Linear || value >= 0);
}

}  // namespace

std::size_t num_marks(const Chart& chart, const Series& series) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < series.x.size(); ++i)
    count += shows(chart.x.scale, series.x[i]) && shows(chart.y.scale, series.y[i]);
  return count;
}

std::string describe(const Series& series) {
  std::vector<double> values;
  for (const double y : series.y)
    if (std::isfinite(y)) values.push_back(y);
  if (values.empty()) return fmt::format("{}: no values", series.name);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{}: {} point{}, first {}, last {}, lowest {}, highest {}", series.name,
                     values.size(), values.size() == 1 ? "" : "s", short_number(values.front()),
                     short_number(values.back()), short_number(*low), short_number(*high));
}

std::string describe(const Chart& chart) {
  // A family of curves is described by its ends.
  constexpr std::size_t kMostSeries = 6;
  std::string text = fmt::format("{}: {} against {}.", chart.title, chart.y.label, chart.x.label);
  const std::size_t count = chart.series.size();
  if (count > kMostSeries) text += fmt::format(" {} curves, of which:", count);
  for (std::size_t i = 0; i < count; ++i)
    if (count <= kMostSeries || i == 0 || i == count - 1)
      text += " " + describe(chart.series[i]) + ".";
  for (const Level& level : chart.levels)
    text += fmt::format(" Line at {}: {}.", short_number(level.y), level.label);
  return text;
}

std::string describe(const HeatMap& map) {
  // How many rows have their largest value in each column.
  std::vector<std::size_t> peaks(map.steps.size());
  const std::size_t columns = map.steps.size();
  for (std::size_t row = 0; row < map.rows.size(); ++row) {
    const float* const values = map.values.data() + row * columns;
    ++peaks[static_cast<std::size_t>(std::max_element(values, values + columns) - values)];
  }
  std::string text = fmt::format("{}: {} {}s by {} snapshots. Largest at step", map.title,
                                 map.rows.size(), map.row_label, columns);
  for (std::size_t i = 0; i < columns; ++i)
    if (peaks[i] > 0) text += fmt::format(" {}: {};", map.steps[i], peaks[i]);
  text.back() = '.';
  return text;
}

}  // namespace cresco::report
