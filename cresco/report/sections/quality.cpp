#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace cresco::report {
namespace {

// One metric over the snapshots; those that the dictionary has not seen are hollow.
void add_metric(Section& section, const Source& source, const std::string& metric,
                const std::string& id, const std::string& title, const std::string& label) {
  const artifacts::Table& quality = source.tables.at("quality_per_snapshot.csv");
  if (!quality.has(metric)) return;
  Chart chart{.id = id,
              .title = title,
              .source = "quality_per_snapshot.csv",
              .x = step_axis(),
              .y = {label},
              .half = true,
              .data = quality};
  chart.series.push_back({.name = "snapshots trained on",
                          .source = "quality_per_snapshot.csv",
                          .x = quality.numbers("step"),
                          .y = quality.numbers(metric)});
  const auto heldout = source.tables.find("heldout.csv");
  // By whichever way the table says that the dictionary was put to a snapshot it has not seen.
  const std::pair<const char*, const char*> ways[] = {
      {"", "held-out snapshots"},
      {"_synthetic_head", "held out: heads interpolated"},
      {"_pca_at_l0", "held out: PCA of rank L0"}};
  for (const auto& [suffix, name] : ways)
    if (heldout != source.tables.end() && heldout->second.has(metric + suffix))
      chart.series.push_back({.name = name,
                              .source = "heldout.csv",
                              .x = heldout->second.numbers("step"),
                              .y = heldout->second.numbers(metric + suffix),
                              .line = false,
                              .hollow = true});
  section.blocks.emplace_back(std::move(chart));
}

double pooled_explained_variance(const Source& source) {
  const auto found = source.tables.find("quality_pooled.csv");
  return found == source.tables.end() ? NAN : metric_of(found->second, "explained_variance_pooled");
}

// The pooled numbers, as they are.
void add_pooled(Section& section, const Source& source, std::size_t index, std::size_t count) {
  const auto found = source.tables.find("quality_pooled.csv");
  if (found == source.tables.end()) return;
  artifacts::Table table({"metric", "value"});
  for (std::size_t i = 0; i < found->second.num_rows(); ++i)
    table.add(found->second.text(i, "metric"), short_number(found->second.number(i, "value")));
  section.blocks.emplace_back(
      DataTable{.id = figure_id("quality_pooled", index),
                .title = title_of("All snapshots together", source, count),
                .source = "quality_pooled.csv",
                .caption = "Metric ids and their formulas stand in docs/metrics.md.",
                .table = std::move(table)});
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
  const auto found = sources_with(sources, "quality_per_snapshot.csv");
  if (found.empty()) return std::nullopt;
  Section section{.id = "quality",
                  .title = "Quality of the dictionary",
                  .text =
                      "How much of each snapshot's matrix the features rebuild, and how many it "
                      "takes."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Source& source = *found[i];
    const auto title = [&](const char* text) { return title_of(text, source, found.size()); };
    add_metric(section, source, "explained_variance", figure_id("explained_variance", i),
               title("Explained variance"), "explained variance");
    add_metric(section, source, "l0", figure_id("l0", i), title("Active features per row"), "l0");
    add_pooled(section, source, i, found.size());
    add_pca(section, source, i, found.size());
  }
  return section;
}

}  // namespace cresco::report
