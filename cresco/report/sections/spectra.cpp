#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace cresco::report {
namespace {

// What most readers come for stands first.
bool is_readout(std::string_view matrix) {
  return matrix == "W_U" || matrix.starts_with("embed_out") || matrix.starts_with("lm_head");
}

std::vector<std::string> matrices_of(const artifacts::Table& table) {
  std::vector<std::string> names;
  for (const std::string& name : table.texts("matrix"))
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  std::stable_sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return is_readout(a) > is_readout(b);
  });
  return names;
}

artifacts::Table rows_of(const artifacts::Table& table, const std::string& matrix) {
  artifacts::Table rows(table.columns());
  const std::vector<std::string> names = table.texts("matrix");
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == matrix) rows.add_row(table.row(i));
  return rows;
}

// One curve per step, from one end of the ramp to the other.
Chart singular_values(const artifacts::Table& rows, const std::string& matrix,
                      const std::string& id) {
  Chart chart{.id = id,
              .title = fmt::format("Singular values of {}", matrix),
              .source = "singular_values.csv",
              .x = {"rank", Scale::Log},
              .y = {"singular value", Scale::Log},
              .data = rows};
  std::map<double, Series> by_step;
  const std::vector<double> steps = rows.numbers("step"), ranks = rows.numbers("rank"),
                            values = rows.numbers("singular_value");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (std::isnan(steps[i])) continue;
    Series& series = by_step[steps[i]];
    series.x.push_back(ranks[i]);
    series.y.push_back(values[i]);
  }
  for (auto& [step, series] : by_step) {
    series.name = fmt::format("step {}", whole_number(step));
    series.source = "singular_values.csv";
    series.ramp = by_step.size() < 2 ? 1 : double(chart.series.size()) / double(by_step.size() - 1);
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart rank_chart(const artifacts::Table& table, const std::vector<std::string>& matrices,
                 const char* column, const char* title, const std::string& id) {
  Chart chart{.id = id,
              .title = title,
              .source = "weight_spectra.csv",
              .x = step_axis(),
              .y = {column},
              .half = true,
              .data = table};
  for (const std::string& matrix : matrices) {
    const artifacts::Table rows = rows_of(table, matrix);
    chart.series.push_back({.name = matrix,
                            .source = "weight_spectra.csv",
                            .x = rows.numbers("step"),
                            .y = rows.numbers(column)});
  }
  return chart;
}

}  // namespace

std::optional<Section> build_spectra(const Sources& sources) {
  Section section{.id = "spectra",
                  .title = "Weight spectra",
                  .text = "How the matrix's energy is spread over directions as training goes on."};
  std::size_t num_charts = 0, num_ranks = 0;
  for (const Source* source : sources_with(sources, "singular_values.csv")) {
    const artifacts::Table& table = source->tables.at("singular_values.csv");
    for (const std::string& matrix : matrices_of(table))
      section.blocks.emplace_back(singular_values(rows_of(table, matrix), matrix,
                                                  figure_id("singular_values", num_charts++)));
  }
  for (const Source* source : sources_with(sources, "weight_spectra.csv")) {
    const artifacts::Table& table = source->tables.at("weight_spectra.csv");
    const std::vector<std::string> matrices = matrices_of(table);
    section.blocks.emplace_back(rank_chart(table, matrices, "stable_rank", "Stable rank",
                                           figure_id("stable_rank", num_ranks)));
    section.blocks.emplace_back(rank_chart(table, matrices, "effective_rank", "Effective rank",
                                           figure_id("effective_rank", num_ranks++)));
  }
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
