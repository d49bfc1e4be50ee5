#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::report {
namespace {

// The best matches first.
artifacts::Table sorted_by_score(const artifacts::Table& planted) {
  std::vector<std::size_t> order(planted.num_rows());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<double> scores = planted.numbers("score");
  for (double& score : scores)
    if (!std::isfinite(score)) score = -1;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  artifacts::Table sorted(planted.columns());
  for (const std::size_t row : order) sorted.add_row(planted.row(row));
  return sorted;
}

Chart score_chart(const artifacts::Table& sorted, const std::string& id, const std::string& title) {
  Chart chart{.id = id,
              .title = title,
              .source = "planted.csv",
              .x = {"planted feature, best match first"},
              .y = {"score (F1 of the tokens it fires on)"}};
  for (const bool found : {true, false}) {
    Series series{.name = found ? "found" : "not found",
                  .source = "planted.csv",
                  .line = false,
                  .hollow = !found};
    for (std::size_t i = 0; i < sorted.num_rows(); ++i)
      if ((sorted.number(i, "found") == 1) == found) {
        series.x.push_back(double(i + 1));
        series.y.push_back(sorted.number(i, "score"));
      }
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace

std::optional<Section> build_planted(const Sources& sources) {
  const auto with = sources_with(sources, "planted.csv");
  if (with.empty()) return std::nullopt;
  Section section{.id = "planted-section", .title = "Planted features"};
  std::size_t found = 0, all = 0;
  for (std::size_t i = 0; i < with.size(); ++i) {
    const artifacts::Table sorted = sorted_by_score(with[i]->tables.at("planted.csv"));
    for (const double value : sorted.numbers("found")) found += value == 1;
    all += sorted.num_rows();
    Chart chart = score_chart(sorted, figure_id("planted", i),
                              title_of("Planted features found again", *with[i], with.size()));
    chart.data = sorted;
    section.blocks.emplace_back(std::move(chart));
  }
  section.text = fmt::format(
      "The synthetic language was built with known groups of tokens. The dictionary found {} of "
      "{}.",
      found, all);
  return section;
}

}  // namespace cresco::report
