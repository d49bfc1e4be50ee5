#include "cresco/report/sections/build.h"

#include "cresco/base/strings.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <cmath>

namespace cresco::report {
namespace {

// The first table of this kind, or null; of several, `whose` says which: " · set/quality".
const artifacts::Table* find_table(const Sources& sources, const std::string& file,
                                   std::string_view column, std::string& whose) {
  const artifacts::Table* first = nullptr;
  std::string name;
  for (const Source& source : sources) {
    const auto found = source.tables.find(file);
    if (found == source.tables.end() || !found->second.has(column)) continue;
    if (first != nullptr) {
      whose = " · " + name;
      return first;
    }
    first = &found->second;
    name = source.name;
  }
  whose.clear();
  return first;
}

// The last row that holds a number, or NaN.
double last_number(const artifacts::Table& table, std::string_view column) {
  const std::vector<double> values = numbers_or_nan(table, column);
  for (std::size_t i = values.size(); i-- > 0;)
    if (std::isfinite(values[i])) return values[i];
  return NAN;
}

void add_number(Facts& facts, const char* label, double value, const std::string& note) {
  if (std::isfinite(value)) facts.facts.push_back({label, short_number(value), note});
}

void add_run(Facts& facts, const Sources& sources) {
  std::string whose;
  const artifacts::Table* const metrics = find_table(sources, "metrics.jsonl", "train/loss", whose);
  if (metrics == nullptr) return;
  const double tokens = last_number(*metrics, "tokens"), step = last_number(*metrics, "step");
  if (std::isfinite(tokens))
    facts.facts.push_back({"tokens trained on", human_count(tokens),
                           fmt::format("{} steps{}", whole_number(step), whose)});
  add_number(facts, "validation loss", last_number(*metrics, "val/loss"),
             fmt::format("nats per token; training {}",
                         short_number(last_number(*metrics, "train/loss"))));
  for (const Source& source : sources)
    if (!source.snapshot_steps.empty()) {
      facts.facts.push_back({"snapshots", whole_number(double(source.snapshot_steps.size())),
                             fmt::format("step {} to {}", source.snapshot_steps.front(),
                                         whole_number(double(source.snapshot_steps.back())))});
      break;
    }
}

void add_dictionary(Facts& facts, const Sources& sources) {
  std::string whose;
  if (const auto* quality = find_table(sources, "quality_pooled.csv", "metric", whose)) {
    add_number(facts, "explained variance", metric_of(*quality, "explained_variance_pooled"),
               "explained_variance_pooled" + whose);
    add_number(facts, "active features", metric_of(*quality, "l0"),
               "l0, per row and snapshot" + whose);
  }
  if (const auto* features = find_table(sources, "features.csv", "alive", whose)) {
    double alive = 0;
    for (const double value : features->numbers("alive")) alive += value == 1;
    facts.facts.push_back(
        {"features alive", whole_number(alive),
         fmt::format("of {}{}", whole_number(double(features->num_rows())), whose)});
  }
}

}  // namespace

std::optional<Section> build_summary(const Sources& sources) {
  Section section{.id = "summary", .title = "Summary and provenance"};
  Facts facts;
  add_run(facts, sources);
  add_dictionary(facts, sources);
  if (!facts.facts.empty()) section.blocks.emplace_back(std::move(facts));

  Provenance provenance;
  for (const Source& source : sources)
    if (source.manifest.is_object())
      provenance.origins.push_back({source.name, source.path, source.recipe, source.manifest});
  if (!provenance.origins.empty()) section.blocks.emplace_back(std::move(provenance));
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
