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
  if (!chart.levels.empty())
    chart.caption +=
        " Dashed lines are what simple predictors reach on the validation tokens (baselines.csv).";
}

const Axis kLoss = {"loss (nats per token)", Scale::Log};

// Training and validation on one axis, and where the snapshots are.
Chart loss_of_one(const Source& run) {
  const artifacts::Table& metrics = run.tables.at("metrics.jsonl");
  const std::string x = metrics.has("tokens") ? "tokens" : "step";
  Chart chart{.id = "loss",
              .title = "Loss against tokens",
              .source = "metrics.jsonl",
              .caption = fmt::format("train/loss and val/loss, from {}.",
                                     from_files("metrics.jsonl", {&run})),
              .x = {x == "tokens" ? "tokens trained on" : "training step", Scale::Log},
              .y = kLoss,
              .linear_toggle = true};
  for (const char* metric : {"train/loss", "val/loss"})
    if (metrics.has(metric)) chart.series.push_back(series_of(metrics, metric, x, metric));
  for (const std::int64_t step : run.snapshot_steps)
    chart.stops.push_back(tokens_at(step, metrics.numbers("step"), metrics.numbers(x)));
  if (!chart.stops.empty()) chart.stops_label = "snapshot";
  chart.data = points_of(chart, {"series", "tokens", "loss"});
  return chart;
}

// Each run over the others: one chart of the training loss, one of the validation loss.
void add_losses(Section& section, const std::vector<Run>& runs, const Sources& sources) {
  const bool tokens = std::all_of(runs.begin(), runs.end(), [](const Run& run) {
    return run.source->tables.at("metrics.jsonl").has("tokens");
  });
  for (const Panel& panel : {Panel{"train/loss", "loss", "Training loss", kLoss, Scale::Log},
                             Panel{"val/loss", "val_loss", "Validation loss", kLoss, Scale::Log}}) {
    std::optional<Chart> chart = panel_of(runs, panel, tokens ? "tokens" : "step");
    if (!chart) continue;
    chart->half = false;
    chart->linear_toggle = true;
    add_baselines(*chart, sources);
    section.blocks.emplace_back(std::move(*chart));
  }
}

constexpr std::string_view kGroup = "optim/grad_norm/";

std::vector<std::string> gradient_groups(const std::vector<Run>& runs) {
  std::vector<std::string> groups;
  for (const Run& run : runs)
    for (const std::string& column : run.source->tables.at("metrics.jsonl").columns()) {
      if (!column.starts_with(kGroup)) continue;
      const std::string group = column.substr(kGroup.size());
      if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
    }
  return groups;
}

Chart groups_of_one(const Source& run, const std::vector<std::string>& groups, const Axis& norm) {
  Chart chart{
      .id = "grad_norm_groups",
      .title = "Gradient norm by group of tensors",
      .source = "metrics.jsonl",
      .caption = fmt::format("{}GROUP, from {}.", kGroup, from_files("metrics.jsonl", {&run})),
      .x = step_axis(),
      .y = norm,
      .half = true};
  for (const std::string& group : groups)
    chart.series.push_back(
        series_of(run.tables.at("metrics.jsonl"), std::string(kGroup) + group, "step", group));
  chart.caption += thin_out(chart);
  chart.data = points_of(chart, {"group", "step", "norm"});
  return chart;
}

// One chart of one run; of several runs one for each group.
void add_gradients(Section& section, const std::vector<Run>& runs) {
  const Axis norm = {"norm before clipping", Scale::Log};
  add_panel(section, runs, {"optim/grad_norm", "grad_norm", "Gradient norm", norm});
  const std::vector<std::string> groups = gradient_groups(runs);
  if (runs.size() == 1 && !groups.empty())
    section.blocks.emplace_back(groups_of_one(*runs[0].source, groups, norm));
  for (std::size_t g = 0; runs.size() > 1 && g < groups.size(); ++g)
    add_panel(section, runs,
              {std::string(kGroup) + groups[g], figure_id("grad_norm_group", g),
               fmt::format("Gradient norm of {}", groups[g]), norm});
}

}  // namespace

std::optional<Section> build_loss(const Sources& sources) {
  const std::vector<Run> runs = runs_with(sources, "train/loss");
  if (runs.empty()) return std::nullopt;
  Section section{.id = "loss-section",
                  .title = "Loss",
                  .text = "How well the model predicts the next token as it sees more text."};
  if (runs.size() == 1) {
    section.blocks.emplace_back(loss_of_one(*runs[0].source));
    add_baselines(std::get<Chart>(section.blocks.back()), sources);
  } else {
    std::vector<Look> looks;
    for (const Run& run : runs) looks.push_back(run.look);
    section.text += legend_of(looks);
    add_losses(section, runs, sources);
  }
  add_panel(section, runs, {"optim/lr", "learning_rate", "Learning rate", {"learning rate"}});
  add_gradients(section, runs);
  add_panel(section, runs,
            {"optim/loss_scale", "loss_scale", "Loss scale", {"loss scale", Scale::Log}});
  add_panel(section, runs,
            {"optim/skipped_steps",
             "skipped_steps",
             "Steps skipped for overflow",
             {"steps skipped so far"}});
  add_panel(section, runs,
            {"tokens_per_second", "tokens_per_second", "Throughput", {"tokens per second"}});
  add_panel(section, runs,
            {"mfu", "mfu", "Model FLOP utilisation", {"share of what matrix products reach"}});
  return section;
}

}  // namespace cresco::report
