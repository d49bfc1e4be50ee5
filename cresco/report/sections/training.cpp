// How dictionaries were trained.
#include "cresco/report/sections/panels.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

// What the loss of one run is made of, on one axis: the terms as they enter the sum.
Chart loss_terms(const Source& run) {
  const artifacts::Table& metrics = run.tables.at("metrics.jsonl");
  Chart chart{.id = "dictionary_loss",
              .title = "Loss and its terms",
              .source = "metrics.jsonl",
              .caption = fmt::format("The loss and what it adds up, from {}.",
                                     from_files("metrics.jsonl", {&run})),
              .x = step_axis(),
              .y = {"loss per row and snapshot", Scale::Log},
              .linear_toggle = true};
  for (const char* term : {"loss", "l_rec", "recon"})
    if (metrics.has(term)) chart.series.push_back(series_of(metrics, term, "step", term));
  if (metrics.has("l_s") && metrics.has("l1_coefficient")) {
    Series sparsity = series_of(metrics, "l_s", "step", "l1_coefficient · l_s");
    const std::vector<double> weights = rows_with(metrics, "l_s").numbers("l1_coefficient");
    for (std::size_t i = 0; i < weights.size(); ++i) sparsity.y[i] *= weights[i];
    // Losses without a sparsity term have the coefficient 0.
    if (std::any_of(weights.begin(), weights.end(), [](double w) { return w != 0; }))
      chart.series.push_back(std::move(sparsity));
  } else if (metrics.has("l_s")) {
    chart.series.push_back(series_of(metrics, "l_s", "step", "l_s"));
  }
  for (const char* term : {"l_aux", "aux"})
    if (metrics.has(term)) chart.series.push_back(series_of(metrics, term, "step", term));
  chart.caption += thin_out(chart);
  chart.data = points_of(chart, {"term", "step", "value"});
  return chart;
}

}  // namespace

std::optional<Section> build_dictionary_training(const Sources& sources) {
  // The models' trainings have train/loss instead.
  const std::vector<Run> runs = runs_with(sources, "loss");
  if (runs.empty()) return std::nullopt;
  Section section{.id = "dictionary-training",
                  .title = "Training of the dictionary",
                  .text = "Measured on the batch of each logged step, before its update."};
  if (runs.size() == 1) {
    section.blocks.emplace_back(loss_terms(*runs[0].source));
  } else {
    section.text += fmt::format(" {} trainings, each a line of its own.", runs.size());
    add_panel(section, runs,
              {"loss", "dictionary_loss", "Loss", {"loss per row and snapshot", Scale::Log}});
    add_panel(section, runs,
              {"l_rec", "dictionary_l_rec", "Reconstruction loss", {"squared error", Scale::Log}});
    add_panel(
        section, runs,
        {"l_s", "dictionary_l_s", "Sparsity term", {"l_s, without its coefficient", Scale::Log}});
    add_panel(section, runs,
              {"l_aux", "dictionary_l_aux", "Auxiliary loss", {"l_aux", Scale::Log}});
    add_panel(section, runs,
              {"recon", "dictionary_recon", "Reconstruction loss", {"recon", Scale::Log}});
    add_panel(section, runs, {"aux", "dictionary_aux", "Auxiliary loss", {"aux", Scale::Log}});
  }
  add_panel(section, runs,
            {"explained_variance",
             "dictionary_explained_variance",
             "Explained variance",
             {"explained variance of the batch"},
             Scale::LogOnePlus,
             0});  // the first steps can be far below, and would press the rest flat
  add_panel(
      section, runs,
      {"l0", "dictionary_l0", "Active features", {"features per row and snapshot", Scale::Log}});
  add_panel(section, runs, {"dead", "dictionary_dead", "Dead features", {"features"}});
  add_panel(section, runs,
            {"lr", "dictionary_lr", "Learning rate", {"learning rate"}, Scale::Linear});
  add_panel(section, runs,
            {"l1_coefficient",
             "dictionary_l1_coefficient",
             "Weight of the sparsity term",
             {"l1_coefficient"},
             Scale::Linear});
  add_panel(section, runs,
            {"lambda", "dictionary_lambda", "Weight of the penalty", {"lambda"}, Scale::Linear});
  add_panel(section, runs,
            {"grad_norm", "dictionary_grad_norm", "Gradient norm", {"norm", Scale::Log}});
  return section;
}

}  // namespace cresco::report
