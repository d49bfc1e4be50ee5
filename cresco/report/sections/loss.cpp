#include "cresco/report/sections/panels.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

// Tokens seen at `step`: logged, or by the batch size of the nearest logged step before it.
double tokens_at(std::int64_t step, const std::vector<double>& steps,
                 const std::vector<double>& tokens) {
  double per_step = NAN;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i] == double(step)) return tokens[i];
    if (steps[i] > 0 && (steps[i] < double(step) || std::isnan(per_step)))
      per_step = tokens[i] / steps[i];
  }
  return per_step * double(step);
}

std::string series_name(const std::string& metric, const Source& run, std::size_t num_runs) {
  return num_runs == 1 ? metric : fmt::format("{} · {}", metric, run.name);
}

void add_baselines(Chart& chart, const Sources& sources) {
  for (const Source* source : sources_with(sources, "baselines.csv")) {
    const artifacts::Table& baselines = source->tables.at("baselines.csv");
    if (!baselines.has("loss") || !baselines.has("name")) continue;  // those of dictionaries
    for (std::size_t i = 0; i < baselines.num_rows(); ++i) {
      const double loss = baselines.number(i, "loss");
      if (std::isfinite(loss))
        chart.levels.push_back(
            {loss, fmt::format("{} {}", baselines.text(i, "name"), short_number(loss))});
    }
  }
}

Chart loss_chart(const Sources& sources, const std::vector<const Source*>& found) {
  Chart chart{.id = "loss",
              .title = "Loss against tokens",
              .source = "metrics.jsonl",
              .x = {"tokens trained on", Scale::Log},
              .y = {"loss (nats per token)", Scale::Log},
              .linear_toggle = true,
              .data = artifacts::Table({"series", "tokens", "loss"})};
  for (const Source* run : found) {
    const artifacts::Table& metrics = run->tables.at("metrics.jsonl");
    const std::string x = metrics.has("tokens") ? "tokens" : "step";
    if (x == "step") chart.x.label = "training step";
    for (const char* metric : {"train/loss", "val/loss"})
      if (metrics.has(metric))
        chart.series.push_back(
            series_of(metrics, metric, x, series_name(metric, *run, found.size())));
    if (found.size() == 1) {
      for (const std::int64_t step : run->snapshot_steps)
        chart.stops.push_back(tokens_at(step, metrics.numbers("step"), metrics.numbers(x)));
    }
  }
  for (const Series& series : chart.series)
    for (std::size_t i = 0; i < series.x.size(); ++i)
      chart.data.add(series.name, series.x[i], series.y[i]);
  if (!chart.stops.empty()) chart.stops_label = "snapshot";
  add_baselines(chart, sources);
  chart.caption =
      fmt::format("train/loss and val/loss, from {}.", from_files("metrics.jsonl", found));
  if (!chart.levels.empty())
    chart.caption +=
        " Dashed lines are what simple predictors reach on the validation tokens (baselines.csv).";
  return chart;
}

}  // namespace

std::optional<Section> build_loss(const Sources& sources) {
  const std::vector<const Source*> found = runs_with(sources, "train/loss");
  if (found.empty()) return std::nullopt;
  Section section{.id = "loss-section",
                  .title = "Loss",
                  .text = "How well the model predicts the next token as it sees more text."};
  section.blocks.emplace_back(loss_chart(sources, found));
  add_panel(section, found, {"optim/lr", "learning_rate", "Learning rate", {"learning rate"}});
  add_panel(
      section, found,
      {"optim/grad_norm", "grad_norm", "Gradient norm", {"norm before clipping", Scale::Log}});
  return section;
}

}  // namespace cresco::report
