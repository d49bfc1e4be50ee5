#include "cresco/report/sections/panels.h"

#include "cresco/base/json.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

// Closer than this share of the axis two points are drawn as one.
constexpr double kNearest = 1.0 / 800;

// The marks that stand apart on the axis of steps, and the last.
void keep_apart(Series& series, Scale scale) {
  const auto place = [&](double step) { return scale == Scale::Linear ? step : std::log1p(step); };
  if (series.x.empty()) return;
  const auto [low, high] = std::minmax_element(series.x.begin(), series.x.end());
  const double least = kNearest * (place(*high) - place(*low));
  std::vector<double> x, y;
  for (std::size_t i = 0; i < series.x.size(); ++i)
    if (x.empty() || i + 1 == series.x.size() || place(series.x[i]) - place(x.back()) >= least) {
      x.push_back(series.x[i]);
      y.push_back(series.y[i]);
    }
  series.x = std::move(x);
  series.y = std::move(y);
}

// Takes away what is below the panel's least; what to add to the caption, or "".
std::string leave_out_low(Chart& chart, double least) {
  std::size_t count = 0;
  double lowest = INFINITY;
  for (Series& series : chart.series) {
    Series kept = series;
    kept.x.clear();
    kept.y.clear();
    for (std::size_t i = 0; i < series.y.size(); ++i) {
      if (series.y[i] < least) {
        ++count;
        lowest = std::min(lowest, series.y[i]);
        continue;
      }
      kept.x.push_back(series.x[i]);
      kept.y.push_back(series.y[i]);
    }
    series = std::move(kept);
  }
  if (count == 0) return "";
  return fmt::format(" {} value{} below {}, the lowest {}, {} not drawn.", count,
                     count == 1 ? "" : "s", short_number(least), short_number(lowest),
                     count == 1 ? "is" : "are");
}

// A setting of the manifest as text, or "".
std::string setting_of(const Source& source, const char* key) {
  const auto settings = source.manifest.find("settings");
  if (settings == source.manifest.end() || !settings->is_object()) return "";
  const auto value = settings->find(key);
  if (value == settings->end()) return "";
  return value->is_string() ? value->get<std::string>() : to_line(*value);
}

}  // namespace

std::vector<Run> runs_with(const Sources& sources, const std::string& column) {
  std::vector<Run> runs;
  std::vector<Trained> trained;
  for (const Source* source : sources_with(sources, "metrics.jsonl")) {
    if (!source->tables.at("metrics.jsonl").has(column)) continue;
    const std::string arm = setting_of(*source, "arm");
    runs.push_back({.source = source});
    trained.push_back(
        {arm.empty() ? source->name : arm, setting_of(*source, "seed"), source->name});
  }
  const std::vector<Look> looks = looks_of(trained);
  for (std::size_t i = 0; i < runs.size(); ++i) runs[i].look = looks[i];
  return runs;
}

Series series_of(const artifacts::Table& metrics, const std::string& column,
                 const std::string& x_column, const std::string& name) {
  const artifacts::Table rows = rows_with(metrics, column);
  return {.name = name,
          .source = "metrics.jsonl",
          .x = numbers_or_nan(rows, x_column),
          .y = rows.numbers(column)};
}

std::string thin_out(Chart& chart) {
  std::size_t all = 0, kept = 0;
  for (Series& series : chart.series) {
    all += series.x.size();
    keep_apart(series, chart.x.scale);
    kept += series.x.size();
  }
  if (kept == all) return "";
  return fmt::format(" Of {} logged values {} are drawn, as many as the eye can tell apart.",
                     whole_number(double(all)), whole_number(double(kept)));
}

artifacts::Table points_of(const Chart& chart, const std::vector<std::string>& columns) {
  artifacts::Table table(columns);
  for (const Series& series : chart.series)
    for (std::size_t i = 0; i < series.x.size(); ++i)
      table.add(series.name, series.x[i], series.y[i]);
  return table;
}

std::optional<Chart> panel_of(const std::vector<Run>& runs, const Panel& panel,
                              const std::string& x_column) {
  Chart chart{.id = panel.id,
              .title = panel.title,
              .source = "metrics.jsonl",
              .x = {x_column == "tokens" ? "tokens trained on" : "training step", panel.steps},
              .y = panel.y,
              .half = true};
  std::vector<const Source*> shown;
  for (const Run& run : runs) {
    const artifacts::Table& metrics = run.source->tables.at("metrics.jsonl");
    if (!metrics.has(panel.column)) continue;
    chart.series.push_back(series_of(metrics, panel.column, x_column,
                                     runs.size() == 1 ? panel.column : run.look.name));
    run.look.apply(chart.series.back());
    shown.push_back(run.source);
  }
  if (shown.empty()) return std::nullopt;
  chart.caption = fmt::format("{}, from {}.", panel.column, from_files("metrics.jsonl", shown));
  chart.caption += leave_out_low(chart, panel.least);
  chart.caption += thin_out(chart);
  chart.data = points_of(chart, {"run", x_column, panel.column});
  return chart;
}

void add_panel(Section& section, const std::vector<Run>& runs, const Panel& panel) {
  if (std::optional<Chart> chart = panel_of(runs, panel))
    section.blocks.emplace_back(std::move(*chart));
}

}  // namespace cresco::report
