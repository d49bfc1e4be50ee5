#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace cresco::report {
namespace {

// Where counts that never fire are more than this many times the next highest bin, that bin would
// press all others flat.
constexpr double kTowers = 4;

// The bins of one step, NaN for all snapshots together; those that never fire at rate 0.
Series bins_of(const artifacts::Table& density, double step) {
  const std::vector<double> steps = density.numbers("step"),
                            from = density.numbers("log10_rate_from"),
                            to = density.numbers("log10_rate_to"),
                            counts = density.numbers("features");
  Series series{.source = "firing_density.csv", .bins = true};
  for (std::size_t i = 0; i < steps.size(); ++i)
    if (steps[i] == step || (std::isnan(steps[i]) && std::isnan(step))) {
      series.x.push_back(std::isnan(from[i]) ? 0 : std::pow(10, (from[i] + to[i]) / 2));
      series.y.push_back(counts[i]);
    }
  return series;
}

bool towers(const std::vector<Series>& all) {
  double never = 0, most = 0;
  for (const Series& series : all)
    for (std::size_t i = 0; i < series.x.size(); ++i)
      (series.x[i] == 0 ? never : most) = std::max(series.x[i] == 0 ? never : most, series.y[i]);
  return never > kTowers * most && most > 0;
}

Chart density_chart(const Source& source) {
  const artifacts::Table& density = source.tables.at("firing_density.csv");
  Chart chart{.source = "firing_density.csv",
              .x = {"firing rate (share of rows; 0: never)", Scale::Log},
              .y = {"features"},
              .data = density};
  std::set<double> steps;
  for (const double step : density.numbers("step"))
    if (std::isfinite(step)) steps.insert(step);
  const std::set<double> chosen = five_of(steps);
  if (Series all = bins_of(density, NAN); !all.x.empty() && steps.size() != 1) {
    all.name = "all snapshots together";
    all.dashed = true;
    chart.series.push_back(std::move(all));
  }
  std::size_t count = 0;
  for (const double step : chosen) {
    Series series = bins_of(density, step);
    series.name = fmt::format("step {}", whole_number(step));
    series.ramp = chosen.size() < 2 ? 1 : double(count++) / double(chosen.size() - 1);
    chart.series.push_back(std::move(series));
  }
  chart.caption = fmt::format("Features in each quarter of a decade of firing rate, from {}.",
                              from_files("firing_density.csv", {&source}));
  if (chosen.size() < steps.size())
    chart.caption += fmt::format(" {} of {} snapshots are drawn; all are in the data.",
                                 chosen.size(), steps.size());
  if (towers(chart.series)) chart.y.scale = Scale::Log;
  return chart;
}

}  // namespace

std::optional<Section> build_firing_density(const Sources& sources) {
  const auto found = sources_with(sources, "firing_density.csv");
  if (found.empty()) return std::nullopt;
  Section section{
      .id = "firing-density-section",
      .title = "Firing rates",
      .text =
          "How the features' firing rates are spread over orders of magnitude. Features that never "
          "fire stand apart, at 0."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    Chart chart = density_chart(*found[i]);
    chart.id = figure_id("firing_density", i);
    chart.title = title_of("Firing density", *found[i], found.size());
    section.blocks.emplace_back(std::move(chart));
  }
  return section;
}

}  // namespace cresco::report
