// The readout's shape over training, arm over arm, and how far the arms end apart.
#include "cresco/report/sections/panels.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

constexpr const char* kGeometry = "readout_geometry.csv";
constexpr const char* kDifferences = "arm_differences.csv";

struct Quantity {
  const char* column;
  const char* title;
  const char* axis;
};

constexpr Quantity kQuantities[] = {
    {"rn_mean", "Mean row norm", "mean norm of W_U's rows"},
    {"rn_max", "Largest row norm", "largest norm of W_U's rows"},
    {"rn_tail_frac", "Long rows", "share of rows above 1.5 medians"},
    {"stable_rank", "Stable rank of the readout", "stable rank of W_U"},
    {"eff_rank", "Effective rank of the readout", "effective rank of W_U"},
    {"top1_frac", "Share of the first direction", "largest σ² over Σσ²"},
    {"s1", "Largest singular value", "σ₁ of W_U"},
    {"s2v", "Second singular value", "σ₂ of W_U"},
    {"we_rn_mean", "Mean row norm of the input embedding", "mean norm of W_E's rows"},
    {"lnf_norm", "Gain of the final norm", "norm of the gain"},
};

// The lines of one training, in order of its steps.
struct Curve {
  const Source* source = nullptr;
  std::vector<std::size_t> rows;
  Look look;
};

std::string text_or(const artifacts::Table& table, std::size_t row, const char* column,
                    const std::string& otherwise) {
  return table.has(column) && !table.text(row, column).empty() ? table.text(row, column)
                                                               : otherwise;
}

// Arms have the colours that their losses have.
std::vector<Curve> curves_of(const Sources& sources) {
  std::vector<Curve> curves;
  std::vector<Trained> trained;
  for (const Source* source : sources_with(sources, kGeometry)) {
    const artifacts::Table& table = source->tables.at(kGeometry);
    const std::vector<double> steps = numbers_or_nan(table, "step");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const std::string arm = text_or(table, i, "cond", source->name),
                        seed = text_or(table, i, "seed", "");
      if (!std::isfinite(steps[i])) continue;
      const bool goes_on = !curves.empty() && curves.back().source == source &&
                           steps[i] > steps[curves.back().rows.back()] &&
                           trained.back().arm == arm && trained.back().seed == seed;
      if (!goes_on) {
        curves.push_back({.source = source});
        trained.push_back({arm, seed, fmt::format("{} · {}", arm, source->name)});
      }
      curves.back().rows.push_back(i);
    }
  }
  std::vector<std::string> palette;
  for (const Run& run : runs_with(sources, "train/loss"))
    if (!run.look.repeated) palette.push_back(run.look.arm);
  const std::vector<Look> looks = looks_of(trained, palette);
  for (std::size_t i = 0; i < curves.size(); ++i) curves[i].look = looks[i];
  return curves;
}

// Nothing where no line has the quantity.
std::optional<Chart> chart_of(const std::vector<Curve>& curves, const Quantity& quantity) {
  Chart chart{.id = fmt::format("readout_{}", quantity.column),
              .title = quantity.title,
              .source = kGeometry,
              .x = step_axis(),
              .y = {quantity.axis},
              .half = true};
  std::vector<const Source*> shown;
  for (const Curve& curve : curves) {
    const artifacts::Table& table = curve.source->tables.at(kGeometry);
    if (!table.has(quantity.column)) continue;
    Series series{.name = curve.look.name, .source = kGeometry};
    curve.look.apply(series);
    for (const std::size_t row : curve.rows) {
      const double x = table.number(row, "step"), y = table.number(row, quantity.column);
      if (!std::isfinite(y)) continue;
      series.x.push_back(x);
      series.y.push_back(y);
    }
    chart.series.push_back(std::move(series));
    if (shown.empty() || shown.back() != curve.source) shown.push_back(curve.source);
  }
  chart.caption = fmt::format("{}, from {}.", quantity.column, from_files(kGeometry, shown));
  chart.caption += thin_out(chart);
  chart.data = points_of(chart, {"arm", "step", quantity.column});
  if (chart.data.num_rows() == 0) return std::nullopt;
  return chart;
}

std::string with_sign(double value) { return (value > 0 ? "+" : "") + short_number(value); }

// The arms of one table at their last steps, the numbers that matter most first; nothing where it
// does not have the quantity.
std::optional<DataTable> differences_of(const Source& source, const Quantity& quantity,
                                        std::size_t index, std::size_t num_sources) {
  const artifacts::Table& rows = source.tables.at(kDifferences);
  for (const char* column : {"cond", "metric"})
    if (!rows.has(column)) return std::nullopt;
  const auto numbers = [&](const char* column) { return numbers_or_nan(rows, column); };
  const std::vector<double> seeds = numbers("num_seeds"), means = numbers("mean"),
                            spreads = numbers("seed_spread"), differences = numbers("difference"),
                            in_spreads = numbers("spreads");
  DataTable out{
      .id = figure_id(fmt::format("differences_{}", quantity.column), index),
      .title = title_of(fmt::format("{}, at the end", quantity.title), source, num_sources),
      .source = kDifferences,
      .table = artifacts::Table({"arm", "last", "difference", "in spreads", "spread", "seeds"})};
  for (std::size_t i = 0; i < rows.num_rows(); ++i) {
    if (rows.text(i, "metric") != quantity.column) continue;
    const bool first = out.table.num_rows() == 0;  // the arm that the others differ from
    const std::string in_spread =
        std::isfinite(in_spreads[i]) ? fmt::format("{:.1f}", in_spreads[i]) : "–";
    out.table.add(rows.text(i, "cond"), short_number(means[i]),
                  first ? "" : with_sign(differences[i]), first ? "" : in_spread,
                  short_number(spreads[i]), short_number(seeds[i]));
  }
  if (out.table.num_rows() == 0) return std::nullopt;
  out.caption =
      fmt::format("{} at the last step, and differences from {}, also in spreads of seeds.",
                  quantity.column, out.table.text(0, "arm"));
  return out;
}

}  // namespace

std::optional<Section> build_readout_geometry(const Sources& sources) {
  const std::vector<Curve> curves = curves_of(sources);
  std::vector<Look> looks;
  for (const Curve& curve : curves) looks.push_back(curve.look);
  Section section{.id = "readout-geometry",
                  .title = "Geometry of the readout",
                  .text =
                      "How long the rows of W_U grow, and over how many directions they spread; "
                      "the files also hold rn_std, rn_med and lnf_max." +
                      legend_of(looks)};
  const std::vector<const Source*> compared = sources_with(sources, kDifferences);
  for (const Quantity& quantity : kQuantities) {
    if (std::optional<Chart> chart = chart_of(curves, quantity))
      section.blocks.emplace_back(std::move(*chart));
    for (std::size_t i = 0; i < compared.size(); ++i)
      if (std::optional<DataTable> table =
              differences_of(*compared[i], quantity, i, compared.size()))
        section.blocks.emplace_back(std::move(*table));
  }
  if (section.blocks.empty()) return std::nullopt;
  return section;
}

}  // namespace cresco::report
