#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace cresco::report {
namespace {

constexpr const char* kPerSnapshot = "quality_per_snapshot.csv";

// By whichever way heldout.csv says that the dictionary was put to a snapshot it has not seen.
constexpr std::pair<const char*, const char*> kHeldoutWays[] = {
    {"", "held-out snapshots"},
    {"_synthetic_head", "held out: heads interpolated"},
    {"_pca_at_l0", "held out: PCA of rank L0"}};

std::string named(const std::string& what, const Source& source, std::size_t num_dictionaries) {
  return num_dictionaries == 1 ? what : fmt::format("{} · {}", source.name, what);
}

void add_heldout(Chart& chart, const Source& source, const std::string& metric,
                 std::size_t num_dictionaries) {
  const auto heldout = source.tables.find("heldout.csv");
  if (heldout == source.tables.end()) return;
  for (const auto& [suffix, name] : kHeldoutWays)
    if (heldout->second.has(metric + suffix))
      chart.series.push_back({.name = named(name, source, num_dictionaries),
                              .source = "heldout.csv",
                              .x = heldout->second.numbers("step"),
                              .y = heldout->second.numbers(metric + suffix),
                              .line = false,
                              .hollow = true});
}

// One metric over the snapshots, all dictionaries over each other; snapshots that a dictionary has
// not seen are hollow.
void add_metric(Section& section, const Sources& sources, const std::string& metric,
                const std::string& id, const std::string& title, const std::string& label) {
  std::vector<const Source*> found = sources_with(sources, kPerSnapshot);
  std::erase_if(found,
                [&](const Source* source) { return !source->tables.at(kPerSnapshot).has(metric); });
  if (found.empty()) return;
  Chart chart{.id = id,
              .title = title,
              .source = kPerSnapshot,
              .caption = fmt::format("{}, from {}.", metric, from_files(kPerSnapshot, found)),
              .x = step_axis(),
              .y = {label},
              .half = true,
              .data = artifacts::Table({"dictionary", "step", metric})};
  for (const Source* source : found) {
    const artifacts::Table& quality = source->tables.at(kPerSnapshot);
    chart.series.push_back({.name = found.size() == 1 ? "snapshots trained on" : source->name,
                            .source = kPerSnapshot,
                            .x = quality.numbers("step"),
                            .y = quality.numbers(metric)});
    for (std::size_t i = 0; i < quality.num_rows(); ++i)
      chart.data.add(source->name, quality.text(i, "step"), quality.text(i, metric));
  }
  for (const Source* source : found) add_heldout(chart, *source, metric, found.size());
  section.blocks.emplace_back(std::move(chart));
}

// The first column of the kind "dead_rate_1e-4", or "".
std::string dead_rate_of(const Sources& sources) {
  for (const Source* source : sources_with(sources, kPerSnapshot))
    for (const std::string& column : source->tables.at(kPerSnapshot).columns())
      if (column.starts_with("dead_rate_")) return column;
  return "";
}

double pooled_explained_variance(const Source& source) {
  const auto found = source.tables.find("quality_pooled.csv");
  return found == source.tables.end() ? NAN : metric_of(found->second, "explained_variance_pooled");
}

// What linear accounts of the stack explain, by baseline and rank: over the snapshots, and of all
// of them together.
using Baselines = std::map<std::pair<std::string, double>, Series>;

std::string baseline_name(const std::string& baseline, double rank, std::size_t num_ranks) {
  return num_ranks > 1 ? fmt::format("{} of rank {}", baseline, rank) : baseline;
}

// Beside the dictionaries: a dashed line for each baseline and rank, those of several ranks from
// one end of the ramp to the other.
void add_baselines_by_snapshot(Section& section, const Sources& sources, Baselines& baselines) {
  const auto found = sources_with(sources, kPerSnapshot);
  Chart chart{.id = "baselines_by_snapshot",
              .title = "Simpler codes, by snapshot",
              .source = "linear_baselines.csv",
              .caption =
                  "Dashed: what linear accounts of each snapshot explain, from "
                  "linear_baselines.csv.",
              .x = step_axis(),
              .y = {"explained variance"},
              .half = true,
              .data = artifacts::Table({"baseline", "step", "explained_variance"})};
  for (const Source* source : found)
    if (const artifacts::Table& quality = source->tables.at(kPerSnapshot);
        quality.has("explained_variance"))
      chart.series.push_back({.name = found.size() == 1 ? "the dictionary" : source->name,
                              .source = kPerSnapshot,
                              .x = quality.numbers("step"),
                              .y = quality.numbers("explained_variance")});
  std::map<std::string, std::size_t> num_ranks;
  std::size_t on_ramp = 0, count = 0;
  for (const auto& [key, line] : baselines) ++num_ranks[key.first];
  for (const auto& [key, line] : baselines) on_ramp += num_ranks[key.first] > 1;
  for (auto& [key, line] : baselines) {
    line.name = baseline_name(key.first, key.second, num_ranks[key.first]);
    line.source = "linear_baselines.csv";
    line.dashed = true;
    if (num_ranks[key.first] > 1) line.ramp = 0.35 + 0.65 * double(count++) / double(on_ramp - 1);
    for (std::size_t i = 0; i < line.x.size(); ++i) chart.data.add(line.name, line.x[i], line.y[i]);
    chart.series.push_back(std::move(line));
  }
  section.blocks.emplace_back(std::move(chart));
}

// A line for each baseline over the numbers that it takes for a row; the dictionaries are levels.
void add_baselines_by_rank(Section& section, const Sources& sources, const Baselines& baselines) {
  Chart chart{.id = "baselines_by_rank",
              .title = "Simpler codes, by rank",
              .source = "linear_baselines.csv",
              .caption =
                  "What linear accounts of all snapshots together explain, from "
                  "linear_baselines.csv. Dashed: the dictionary's explained_variance_pooled.",
              .x = {"rank (numbers that describe a row)", Scale::Log},
              .y = {"explained variance, pooled"},
              .half = true,
              .data = artifacts::Table({"baseline", "rank", "explained_variance"})};
  std::map<std::string, Series> lines;
  for (const auto& [key, points] : baselines)
    for (const double explained : points.y) {
      Series& line = lines[key.first];
      line.name = key.first;
      line.source = "linear_baselines.csv";
      line.x.push_back(key.second);
      line.y.push_back(explained);
      chart.data.add(key.first, key.second, explained);
    }
  for (auto& [name, line] : lines) chart.series.push_back(std::move(line));
  const auto found = sources_with(sources, "quality_pooled.csv");
  for (const Source* source : found)
    if (const double explained = pooled_explained_variance(*source); std::isfinite(explained))
      chart.levels.push_back(
          {explained, fmt::format("{} {}", found.size() == 1 ? "dictionary" : source->name,
                                  short_number(explained))});
  section.blocks.emplace_back(std::move(chart));
}

void add_baselines(Section& section, const Sources& sources) {
  Baselines by_snapshot, pooled;
  for (const Source* source : sources_with(sources, "linear_baselines.csv")) {
    const artifacts::Table& table = source->tables.at("linear_baselines.csv");
    const std::vector<double> ranks = numbers_or_nan(table, "rank"),
                              explained = table.numbers("explained_variance");
    for (std::size_t i = 0; i < explained.size(); ++i) {
      if (!std::isfinite(explained[i])) continue;
      const bool of_all = table.text(i, "step") == "pooled";
      Series& points =
          (of_all
               ? pooled
               : by_snapshot)[{table.text(i, "baseline"), std::isfinite(ranks[i]) ? ranks[i] : 0}];
      points.x.push_back(of_all ? NAN : table.number(i, "step"));
      points.y.push_back(explained[i]);
    }
  }
  if (!by_snapshot.empty()) add_baselines_by_snapshot(section, sources, by_snapshot);
  if (!pooled.empty()) add_baselines_by_rank(section, sources, pooled);
}

// The pooled numbers, as they are: a row a metric, a column a dictionary.
void add_pooled(Section& section, const Sources& sources) {
  const auto found = sources_with(sources, "quality_pooled.csv");
  if (found.empty()) return;
  std::vector<std::string> metrics, columns{"metric"};
  std::map<std::pair<std::string, std::size_t>, std::string> cells;
  for (std::size_t d = 0; d < found.size(); ++d) {
    columns.push_back(found.size() == 1 ? "value" : found[d]->name);
    const artifacts::Table& table = found[d]->tables.at("quality_pooled.csv");
    for (std::size_t i = 0; i < table.num_rows(); ++i) {
      const std::string& metric = table.text(i, "metric");
      if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end())
        metrics.push_back(metric);
      cells[{metric, d}] = short_number(table.number(i, "value"));
    }
  }
  constexpr std::size_t kMostBesideAChart = 10;
  const bool is_short = metrics.size() <= kMostBesideAChart && found.size() < 3;
  artifacts::Table table(columns);
  for (const std::string& metric : metrics) {
    std::vector<std::string> row{metric};
    for (std::size_t d = 0; d < found.size(); ++d) row.push_back(cells[{metric, d}]);
    table.add_row(std::move(row));
  }
  section.blocks.emplace_back(
      DataTable{.id = "quality_pooled",
                .title = "All snapshots together",
                .source = "quality_pooled.csv",
                .caption = fmt::format("From {}. The ids' formulas stand in docs/metrics.md.",
                                       from_files("quality_pooled.csv", found)),
                .table = std::move(table),
                .half = is_short});
}

// What a linear code of each rank explains, beside the dictionary.
void add_pca(Section& section, const Source& source, std::size_t index, std::size_t count) {
  const auto found = source.tables.find("pca.csv");
  if (found == source.tables.end()) return;
  const double ours = pooled_explained_variance(source);
  artifacts::Table table({"rank", "explained_variance", "dictionary minus PCA"});
  for (std::size_t i = 0; i < found->second.num_rows(); ++i) {
    const double pca = found->second.number(i, "explained_variance");
    table.add(short_number(found->second.number(i, "rank")), short_number(pca),
              std::isfinite(ours - pca) ? fmt::format("{:+.4f}", ours - pca) : "–");
  }
  section.blocks.emplace_back(DataTable{
      .id = figure_id("pca", index),
      .title = title_of("Against principal components", source, count),
      .source = "pca.csv",
      .caption = "explained_variance of the best linear code of that rank; the dictionary's is "
                 "explained_variance_pooled.",
      .table = std::move(table)});
}

}  // namespace

std::optional<Section> build_quality(const Sources& sources) {
  const auto found = sources_with(sources, kPerSnapshot);
  if (found.empty()) return std::nullopt;
  Section section{.id = "quality",
                  .title = "Quality of the dictionary",
                  .text =
                      "How much of each snapshot's matrix the features rebuild, how many it takes, "
                      "and how many are idle."};
  add_metric(section, sources, "explained_variance", "explained_variance", "Explained variance",
             "explained variance");
  add_metric(section, sources, "l0", "l0", "Active features", "features per row");
  if (const std::string dead = dead_rate_of(sources); !dead.empty())
    add_metric(section, sources, dead, "dead_rate", "Dead features", "share of the features");
  add_baselines(section, sources);
  for (std::size_t i = 0; i < found.size(); ++i) add_pca(section, *found[i], i, found.size());
  add_pooled(section, sources);
  return section;
}

}  // namespace cresco::report
