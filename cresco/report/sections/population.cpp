#include "cresco/report/sections/build.h"

namespace cresco::report {

std::optional<Section> build_population(const Sources& sources) {
  const auto found = sources_with(sources, "population.csv");
  if (found.empty()) return std::nullopt;
  Section section{
      .id = "population-section",
      .title = "Population of features",
      .text =
          "A feature is born at the first snapshot where its decoder norm reaches half of "
          "its largest, and dies after the last such "
          "snapshot."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const artifacts::Table& table = found[i]->tables.at("population.csv");
    Chart chart{.id = figure_id("population", i),
                .title = title_of("Alive, born and dying", *found[i], found.size()),
                .source = "population.csv",
                .x = step_axis(),
                .y = {"features"},
                .data = table};
    for (const char* column : {"alive", "born", "died"})
      if (table.has(column))
        chart.series.push_back({.name = column,
                                .source = "population.csv",
                                .x = table.numbers("step"),
                                .y = table.numbers(column)});
    section.blocks.emplace_back(std::move(chart));
  }
  return section;
}

}  // namespace cresco::report
