#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::report {
namespace {

constexpr std::size_t kMostRows = 12;

const artifacts::Table* table_of(const Source& source, const std::string& file) {
  const auto found = source.tables.find(file);
  return found == source.tables.end() ? nullptr : &found->second;
}

// "seed0 in seed1", when the manifest says so.
std::string which_dictionaries(const Source& source) {
  const auto name = [&](const char* key) -> std::string {
    if (!source.manifest.is_object() || !source.manifest.contains("facts")) return "";
    const Json& facts = source.manifest["facts"];
    if (!facts.is_object() || !facts.contains(key) || !facts[key].is_string()) return "";
    return facts[key].get<std::string>();
  };
  const std::string a = name("a"), b = name("b");
  return a.empty() || b.empty() ? "" : fmt::format("{} in {}", a, b);
}

// The distribution of the best cosine, and that of the null.
void add_histogram(Section& section, const Source& source, std::size_t index,
                   std::size_t num_sources) {
  const artifacts::Table* const bins = table_of(source, "match_histogram.csv");
  if (bins == nullptr) return;
  Chart chart{.id = figure_id("match_histogram", index),
              .source = "match_histogram.csv",
              .caption = which_dictionaries(source),
              .x = {"cosine with the nearest feature"},
              .y = {"share"},
              .data = *bins};
  std::vector<double> middles = bins->numbers("cosine_from");
  const std::vector<double> ends = bins->numbers("cosine_to");
  for (std::size_t i = 0; i < middles.size(); ++i) middles[i] = (middles[i] + ends[i]) / 2;
  for (const auto& [column, name] : {std::pair{"features", "features"}, {"null", "by chance"}}) {
    Series series{.name = name,
                  .source = "match_histogram.csv",
                  .x = middles,
                  .y = numbers_or_nan(*bins, column)};
    if (std::any_of(series.y.begin(), series.y.end(), [](double y) { return std::isfinite(y); }))
      chart.series.push_back(std::move(series));
  }
  if (const artifacts::Table* const summary = table_of(source, "match_summary.csv")) {
    for (const char* metric : {"null_p95", "null_p99"})
      if (const double at = metric_of(*summary, metric); std::isfinite(at))
        chart.stops.push_back(at);
    if (!chart.stops.empty()) chart.stops_label = "95% and 99% of what chance gives are below";
  }
  chart.title =
      title_of(chart.series.size() > 1 ? "Nearest features, and by chance" : "Nearest features",
               source, num_sources);
  section.blocks.emplace_back(std::move(chart));
}

// The numbers of the comparison, and those of the null beside them.
void add_summary(Section& section, const Source& source, std::size_t index,
                 std::size_t num_sources) {
  const artifacts::Table* const summary = table_of(source, "match_summary.csv");
  if (summary == nullptr) return;
  artifacts::Table found({"metric", "value"}), chance({"metric", "value"});
  for (std::size_t i = 0; i < summary->num_rows(); ++i) {
    const std::string& metric = summary->text(i, "metric");
    const bool of_null = metric.find("null_") != std::string::npos || metric.starts_with("pair_");
    (of_null ? chance : found).add(metric, short_number(summary->number(i, "value")));
  }
  section.blocks.emplace_back(
      DataTable{.id = figure_id("match_summary", index),
                .title = title_of("How well they match", source, num_sources),
                .source = "match_summary.csv",
                .caption = "Metric ids and their formulas stand in docs/metrics.md.",
                .table = std::move(found)});
  section.blocks.emplace_back(DataTable{.id = figure_id("match_chance", index),
                                        .title = title_of("What chance gives", source, num_sources),
                                        .source = "match_summary.csv",
                                        .caption = "Rows of the other dictionary, shuffled.",
                                        .table = std::move(chance)});
}

DataTable matches(const artifacts::Table& table, const std::vector<std::size_t>& rows,
                  const std::string& id, const std::string& title, const char* caption) {
  const std::vector<double> cosines = table.numbers("cosine"),
                            seconds = numbers_or_nan(table, "second_cosine"),
                            p_values = numbers_or_nan(table, "p_value_pooled");
  artifacts::Table shown({"feature", "nearest", "cosine", "second", "mutual", "p"});
  for (const std::size_t row : rows)
    shown.add(table.text(row, "feature"), table.text(row, "best"), short_number(cosines[row]),
              short_number(seconds[row]), table.text(row, "mutual") == "1" ? "yes" : "no",
              short_number(p_values[row]));
  return {.id = id,
          .title = title,
          .source = "matches.csv",
          .caption = caption,
          .table = std::move(shown)};
}

// The features with the largest cosine and those with the smallest, the extreme ones first.
void add_extremes(Section& section, const Source& source, std::size_t index,
                  std::size_t num_sources) {
  const artifacts::Table& table = source.tables.at("matches.csv");
  const std::vector<double> cosines = table.numbers("cosine");
  std::vector<std::size_t> order(table.num_rows());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return !std::isfinite(cosines[i]); });
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return cosines[a] > cosines[b]; });
  const auto count = static_cast<std::ptrdiff_t>(std::min(order.size(), kMostRows));
  section.blocks.emplace_back(
      matches(table, {order.begin(), order.begin() + count}, figure_id("matches_best", index),
              title_of("The best matched", source, num_sources), "p is p_value_pooled."));
  section.blocks.emplace_back(matches(table, {order.rbegin(), order.rbegin() + count},
                                      figure_id("matches_worst", index),
                                      title_of("The smallest cosines", source, num_sources),
                                      "Features farthest from any feature of the other dictionary. "
                                      "Whether it lacks them is for p to say."));
}

void add_pairs(Section& section, const Source& source, std::size_t index) {
  const artifacts::Table& pairs = source.tables.at("pairs.csv");
  std::vector<std::string> columns{"pair"};
  for (const char* column :
       {"mmcs_symmetric", "mutual_share", "share_0.9", "assigned_mean", "null_p99"})
    if (pairs.has(column)) columns.emplace_back(column);
  artifacts::Table shown(columns);
  for (std::size_t i = 0; i < pairs.num_rows(); ++i) {
    std::vector<std::string> row{pairs.text(i, "pair")};
    for (std::size_t c = 1; c < columns.size(); ++c)
      row.push_back(short_number(pairs.number(i, columns[c])));
    shown.add_row(std::move(row));
  }
  section.blocks.emplace_back(DataTable{.id = figure_id("match_pairs", index),
                                        .title = "All pairs",
                                        .source = "pairs.csv",
                                        .table = std::move(shown),
                                        .half = false});
}

}  // namespace

std::optional<Section> build_matches(const Sources& sources) {
  const auto found = sources_with(sources, "matches.csv"),
             pairs = sources_with(sources, "pairs.csv");
  if (found.empty() && pairs.empty()) return std::nullopt;
  Section section{.id = "matches-section",
                  .title = "Features in another dictionary",
                  .text =
                      "For every feature the nearest decoder row of another dictionary. Chance is "
                      "what nearest rows reach when the numbers inside each row are shuffled."};
  for (std::size_t i = 0; i < pairs.size(); ++i) add_pairs(section, *pairs[i], i);
  for (std::size_t i = 0; i < found.size(); ++i) {
    add_histogram(section, *found[i], i, found.size());
    add_summary(section, *found[i], i, found.size());
    add_extremes(section, *found[i], i, found.size());
  }
  return section;
}

}  // namespace cresco::report
