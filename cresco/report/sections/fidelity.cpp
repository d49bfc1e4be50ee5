#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>

namespace cresco::report {
namespace {

constexpr const char* kSteps = "readout_functional_fidelity.csv";
constexpr const char* kStrata = "strata_summary.csv";

struct Line {
  const char *column, *name;
};

// Columns of the table over the steps, all dictionaries over each other.
void add_over_steps(Section& section, const Sources& sources, const char* id, const char* title,
                    const char* label, const std::vector<Line>& lines) {
  std::vector<const Source*> found = sources_with(sources, kSteps);
  std::erase_if(
      found, [&](const Source* source) { return !source->tables.at(kSteps).has(lines[0].column); });
  if (found.empty()) return;
  std::vector<std::string> columns{"dictionary", "step"};
  for (const Line& line : lines) columns.emplace_back(line.column);
  Chart chart{.id = id,
              .title = title,
              .source = kSteps,
              .caption = fmt::format("{}, from {}.", lines[0].column, from_files(kSteps, found)),
              .x = step_axis(),
              .y = {label},
              .half = true,
              .data = artifacts::Table(columns)};
  for (const Source* source : found) {
    const artifacts::Table& table = source->tables.at(kSteps);
    for (const Line& line : lines)
      chart.series.push_back(
          {.name = found.size() == 1 ? line.name : fmt::format("{} · {}", source->name, line.name),
           .source = kSteps,
           .x = table.numbers("step"),
           .y = numbers_or_nan(table, line.column)});
    for (std::size_t i = 0; i < table.num_rows(); ++i) {
      std::vector<std::string> row{source->name, table.text(i, "step")};
      for (const Line& line : lines)
        row.push_back(table.has(line.column) ? table.text(i, line.column) : "");
      chart.data.add_row(row);
    }
  }
  section.blocks.emplace_back(std::move(chart));
}

// One number by how often a token stands in the corpus, a line for each of up to five steps.
void add_by_frequency(Section& section, const Source& source, std::size_t index,
                      std::size_t num_sources, const char* id, const char* title, const char* label,
                      const char* column) {
  const artifacts::Table& strata = source.tables.at(kStrata);
  if (!strata.has(column)) return;
  const std::vector<double> steps = strata.numbers("step"), values = numbers_or_nan(strata, column);
  std::set<double> all;
  artifacts::Table data({"step", "decile", column});
  for (std::size_t i = 0; i < strata.num_rows(); ++i) {
    if (strata.text(i, "scheme") != "freq_decile") continue;
    all.insert(steps[i]);
    data.add(strata.text(i, "step"), strata.text(i, "bin"), strata.text(i, column));
  }
  if (all.empty()) return;
  const std::set<double> chosen = five_of(all);
  Chart chart{.id = figure_id(id, index),
              .title = title_of(title, source, num_sources),
              .source = kStrata,
              .caption = fmt::format("{} of the predictions whose next token is of that decile, "
                                     "from {}.",
                                     column, from_files(kStrata, {&source})),
              .x = {"decile of the tokens by frequency (0: rarest)"},
              .y = {label},
              .half = true,
              .data = std::move(data)};
  if (chosen.size() < all.size())
    chart.caption += fmt::format(" {} of {} snapshots are drawn; all are in the data.",
                                 chosen.size(), all.size());
  std::size_t count = 0;
  for (const double step : chosen) {
    Series series{.name = fmt::format("step {}", whole_number(step)), .source = kStrata};
    series.ramp = chosen.size() < 2 ? 1 : double(count++) / double(chosen.size() - 1);
    for (std::size_t i = 0; i < strata.num_rows(); ++i)
      if (steps[i] == step && strata.text(i, "scheme") == "freq_decile") {
        series.x.push_back(strata.number(i, "bin"));
        series.y.push_back(values[i]);
      }
    chart.series.push_back(std::move(series));
  }
  section.blocks.emplace_back(std::move(chart));
}

}  // namespace

std::optional<Section> build_fidelity(const Sources& sources) {
  const auto strata = sources_with(sources, kStrata);
  if (sources_with(sources, kSteps).empty() && strata.empty()) return std::nullopt;
  Section section{.id = "fidelity",
                  .title = "Fidelity of the readout",
                  .text =
                      "How well the models predict a text when what the dictionary rebuilds stands "
                      "in place of their own readout."};
  add_over_steps(section, sources, "fidelity_nll", "Loss with either readout",
                 "nats per prediction", {{"nll_native", "own readout"}, {"nll_recon", "rebuilt"}});
  add_over_steps(section, sources, "fidelity_kl", "Divergence from the own readout",
                 "nats per prediction", {{"kl_native_to_recon", "rebuilt"}});
  add_over_steps(section, sources, "fidelity_top1", "Same likeliest token",
                 "share of the predictions", {{"top1_agreement", "rebuilt"}});
  for (std::size_t i = 0; i < strata.size(); ++i) {
    add_by_frequency(section, *strata[i], i, strata.size(), "fidelity_kl_by_frequency",
                     "Divergence by frequency", "nats per prediction", "kl_to_native");
    add_by_frequency(section, *strata[i], i, strata.size(), "fidelity_top1_by_frequency",
                     "Same likeliest token by frequency", "share of the predictions",
                     "top1_agreement");
  }
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
