#include "cresco/verbs/eval.h"

#include "cresco/artifacts/table.h"
#include "cresco/artifacts/table_text.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/heldout.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/tensor/bridge.h"
#include "cresco/verbs/eval_linear.h"
#include "cresco/verbs/interruptible.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::Dictionary;
using dictionaries::HeldoutQuality;
using dictionaries::Quality;
using dictionaries::StackRows;
using trajectories::Stack;

// {"pooled": {id: one line}, "snapshots": ...} of the numbers in `summary`.
Json definitions_json(const Json& summary) {
  Json out{{"pooled", Json::object()}, {"snapshots", Json::object()}};
  for (const auto& [id, value] : summary["pooled"].items())
    out["pooled"][id] = dictionaries::definition_of(id, true);
  for (const auto& [id, value] : summary["snapshots"][0].items())
    if (id != "step") out["snapshots"][id] = dictionaries::definition_of(id, false);
  return out;
}

Table pooled_table(const Json& pooled) {
  Table table({"metric", "value"});
  for (const auto& [id, value] : pooled.items()) table.add(id, value.get<double>());
  return table;
}

Table snapshot_table(const Json& snapshots) {
  std::vector<std::string> columns;
  for (const auto& [id, value] : snapshots[0].items()) columns.push_back(id);
  Table table(columns);
  for (const Json& snapshot : snapshots) {
    std::vector<std::string> cells;
    for (const auto& [id, value] : snapshot.items())
      cells.push_back(id == "step" ? Table::cell(value.get<std::int64_t>())
                                   : Table::cell(value.get<double>()));
    table.add_row(std::move(cells));
  }
  return table;
}

// The pooled numbers, each with its definition, then a table of ours by snapshot.
std::string text_of(const Json& summary) {
  std::string text = fmt::format(
      "over all {} rows of {} snapshots{}\n", summary["num_rows"].get<std::int64_t>(),
      summary["snapshots"].size(),
      summary.contains("batch_rows")
          ? fmt::format("; batches of {} rows", summary["batch_rows"].get<std::int64_t>())
          : "");
  for (const auto& [id, value] : summary["pooled"].items())
    text += fmt::format("{:<35} {:>12.6g}  {}\n", id, value.get<double>(),
                        summary["definitions"]["pooled"][id].get<std::string>());
  text += fmt::format("\n{:>10} {:>20} {:>10} {:>16}\n", "step", "explained_variance", "l0",
                      "dead_rate_1e-4");
  for (const Json& row : summary["snapshots"])
    text += fmt::format("{:>10} {:>20.6f} {:>10.3f} {:>16.4f}\n", row["step"].get<std::int64_t>(),
                        row["explained_variance"].get<double>(), row["l0"].get<double>(),
                        row["dead_rate_1e-4"].get<double>());
  return text;
}

// Our id, the reference's column, and the number.
struct HeldoutColumn {
  const char *id, *reference;
  double HeldoutQuality::*value;
};
constexpr HeldoutColumn kHeldoutColumns[] = {
    {"explained_variance_synthetic_head", "ev_synth_interp", &HeldoutQuality::synthetic_head},
    {"explained_variance_nearest_head", "ev_nn_head", &HeldoutQuality::nearest_head},
    {"explained_variance_direct_interpolation", "ev_direct_wu_interp",
     &HeldoutQuality::direct_interpolation},
    {"explained_variance_endpoint", "ev_endpoint", &HeldoutQuality::endpoint},
    {"explained_variance_pca_at_l0", "", &HeldoutQuality::pca_at_l0},
    {"explained_variance_pca_rank50", "ev_pca_r50", &HeldoutQuality::pca_rank50},
    {"explained_variance_before_raw", "ev_ceiling_t_minus_raw", &HeldoutQuality::before},
    {"explained_variance_after_raw", "ev_ceiling_t_plus_raw", &HeldoutQuality::after},
    {"explained_variance_before_normalized", "ev_ceiling_t_minus_norm",
     &HeldoutQuality::before_normalized},
    {"explained_variance_after_normalized", "ev_ceiling_t_plus_norm",
     &HeldoutQuality::after_normalized}};

Json heldout_json(const std::vector<HeldoutQuality>& all) {
  Json list = Json::array();
  for (const HeldoutQuality& q : all) {
    Json row = {{"step", q.step},
                {"step_before", q.step_before},
                {"step_after", q.step_after},
                {"alpha_log", q.alpha_log}};
    for (const HeldoutColumn& column : kHeldoutColumns) row[column.id] = q.*column.value;
    list.push_back(std::move(row));
  }
  return list;
}

Table heldout_table(const std::vector<HeldoutQuality>& all) {
  std::vector<std::string> columns{"step", "step_before", "step_after", "alpha_log"};
  for (const HeldoutColumn& column : kHeldoutColumns) columns.emplace_back(column.id);
  Table table(columns);
  for (const HeldoutQuality& q : all) {
    std::vector<std::string> row{Table::cell(q.step), Table::cell(q.step_before),
                                 Table::cell(q.step_after), Table::cell(q.alpha_log)};
    for (const HeldoutColumn& column : kHeldoutColumns) row.push_back(Table::cell(q.*column.value));
    table.add_row(row);
  }
  return table;
}

// The same under the names, and in the order, of the reference's table.
Table heldout_reference_table(const std::vector<HeldoutQuality>& all) {
  std::vector<std::string> columns{"held_out_step", "t_minus", "t_plus", "alpha_log"};
  for (const HeldoutColumn& column : kHeldoutColumns)
    if (*column.reference) columns.emplace_back(column.reference);
  Table table(columns);
  for (const HeldoutQuality& q : all) {
    std::vector<std::string> row{Table::cell(q.step), Table::cell(q.step_before),
                                 Table::cell(q.step_after), fmt::format("{:.4f}", q.alpha_log)};
    for (const HeldoutColumn& column : kHeldoutColumns)
      if (*column.reference) row.push_back(Table::cell(q.*column.value));
    table.add_row(row);
  }
  return table;
}

// (steps, ways, rows) and (steps, rows).
void write_heldout_norms(const Path& folder, const std::vector<HeldoutQuality>& all,
                         std::vector<std::string>& tables) {
  std::vector<at::Tensor> residuals, rows;
  for (const HeldoutQuality& q : all) {
    residuals.push_back(q.residual_norm_5V);
    rows.push_back(q.row_norm_V);
  }
  tensor::write_npy(folder / tables.emplace_back("heldout_residual_norms.npy"),
                    at::stack(residuals));
  tensor::write_npy(folder / tables.emplace_back("heldout_row_norms.npy"), at::stack(rows));
}

std::vector<HeldoutQuality> run_heldout(const EvalConfig& config, const Dictionary& dictionary,
                                        const StackRows& rows, const std::optional<ExactPca>& pca,
                                        VerbContext& context) {
  const Stack held_out(config.heldout);
  context.progress.begin("heldout", rows.num_rows(), "row");
  const auto all = dictionaries::measure_heldout(dictionary, rows, held_out,
                                                 {.at_l0 = pca ? &pca->at_l0 : nullptr,
                                                  .seed = context.seed(),
                                                  .done = [&](std::int64_t done) {
                                                    stop_when_interrupted(context.progress);
                                                    context.progress.update(done, "");
                                                  }});
  context.progress.end();
  return all;
}

dictionaries::QualityOptions quality_options(const EvalConfig& config,
                                             const Dictionary& dictionary) {
  require_usage(config.definitions == "ours" || config.definitions == "all",
                "--definitions '{}' is not one of ours, all", config.definitions);
  require_usage(config.quality_batch >= 0 && config.block_bytes > 0,
                "--quality-batch {}, --block-bytes {}: expected positive numbers",
                config.quality_batch, config.block_bytes);
  return {.all_definitions = config.definitions == "all",
          .batch_rows =
              config.quality_batch > 0 ? config.quality_batch : dictionary.training.batch_size,
          .block_bytes = config.block_bytes};
}

bool reads_text(const EvalConfig& config) {
  return !config.corpus.empty() || !config.trajectory.empty();
}

FidelityInputs fidelity_inputs(const EvalConfig& config) {
  return {config.trajectory, config.corpus, config.tokenizer};
}

std::string text_of_fidelity(const Json& steps) {
  std::string text =
      fmt::format("\n{:>10} {:>10} {:>10} {:>18} {:>10} {:>10} {:>14}\n", "step", "matrix_ev",
                  "logit_r2", "kl_native_to_recon", "nll_native", "nll_recon", "top1_agreement");
  for (const Json& row : steps) {
    const auto value = [&](const char* id) { return row[id].get<double>(); };
    text += fmt::format("{:>10} {:>10.5f} {:>10.5f} {:>18.6g} {:>10.5f} {:>10.5f} {:>14.5f}\n",
                        row["step"].get<std::int64_t>(), value("matrix_ev"), value("logit_r2"),
                        value("kl_native_to_recon"), value("nll_native"), value("nll_recon"),
                        value("top1_agreement"));
  }
  return text;
}

Outcome plan_outcome(const EvalConfig& config, const Stack& stack, const Dictionary& dictionary) {
  const auto& p = dictionary.parameters;
  const auto options = quality_options(config, dictionary);
  const auto kind = dictionary.activation.kind;
  double products = 2;  // encode, decode
  if (options.all_definitions)
    products += kind == dictionaries::ActivationKind::JumpRelu    ? 1
                : kind == dictionaries::ActivationKind::BatchTopK ? 2
                                                                  : 0;
  const double flops = 2 * products * static_cast<double>(stack.num_rows()) *
                       static_cast<double>(p.num_heads() * p.width()) *
                       static_cast<double>(p.num_features());
  const double weights = 4.0 * static_cast<double>(p.count());
  const double block =
      std::min(static_cast<double>(config.block_bytes),
               static_cast<double>(stack.num_rows() * quality_row_bytes(dictionary.crosscoder(),
                                                                        options.all_definitions)));
  Cost cost{flops, block};
  const auto product = 2 * static_cast<double>(stack.num_rows()) * static_cast<double>(p.width()) *
                       static_cast<double>(p.num_features());
  if (!config.heldout.empty()) {
    // The encoder again; of each step two products that read, three that write, and two neighbours.
    const auto steps = static_cast<double>(Stack(config.heldout).num_snapshots());
    cost.flops += product * (static_cast<double>(p.num_heads()) + 7 * steps);
    cost.bytes += 8 * 7 * steps * static_cast<double>(stack.num_rows());
  }
  if (config.baselines) {
    cost.flops += baselines_flops(stack.num_rows(), p.num_heads(), p.width());
    cost.bytes = std::max(
        cost.bytes, baselines_bytes(stack.num_rows()) + static_cast<double>(config.block_bytes));
  }
  if (reads_text(config)) {
    const Cost text = fidelity_cost(config.fidelity, fidelity_inputs(config), dictionary, stack,
                                    config.block_bytes);
    cost = {cost.flops + text.flops, std::max(cost.bytes, text.bytes)};
  }
  Outcome outcome;
  outcome.summary = {{"flops", cost.flops}, {"memory_bytes", weights + cost.bytes}};
  outcome.text = fmt::format(
      "{} features over {} snapshots of {} rows: {:.3g} FLOPs, about {} of memory ({} of them the "
      "dictionary)\n",
      p.num_features(), p.num_heads(), stack.num_rows(), cost.flops,
      human_bytes(weights + cost.bytes), human_bytes(weights));
  return outcome;
}

}  // namespace

Outcome run_eval(const EvalConfig& config, VerbContext& context) {
  require_usage(!config.stack.empty(),
                "--stack is needed: the stack that holds the dictionary's steps");
  require_cpu(context, "eval");
  const Path dictionary_path = dictionaries::dictionary_file(config.dict);
  const Dictionary dictionary = dictionaries::read_dictionary(dictionary_path);
  for (const std::string& note : dictionary.notes) context.progress.note(note);
  const Stack stack(config.stack);
  const auto indices = heads_in(stack, dictionary);
  auto options = quality_options(config, dictionary);
  const bool holds_out = !config.heldout.empty();
  std::vector<std::int64_t> not_held_out;
  if (holds_out)
    not_held_out =
        dictionaries::heldout_steps(Stack(config.heldout), stack, dictionary.steps).left_out;
  if (!not_held_out.empty())
    context.progress.note(
        fmt::format("{}: steps {} are left out: trained, or not between trained ones",
                    config.heldout, list_steps(not_held_out)));
  if (reads_text(config))
    check_fidelity(config.fidelity, fidelity_inputs(config), dictionary, stack);
  if (context.options.dry_run) return plan_outcome(config, stack, dictionary);
  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite,
                   std::vector<Path>{dictionary_path, config.stack, config.heldout,
                                     config.trajectory, config.corpus, config.tokenizer});

  watch_for_interrupts();
  options.done = [&](std::int64_t done) {
    stop_when_interrupted(context.progress);
    context.progress.update(done, "");
  };
  const auto num_heads = static_cast<std::int64_t>(indices.size());
  context.progress.begin("statistics", num_heads * stack.num_rows(), "row");
  const StackRows rows(stack, indices, dictionary.training.input_preprocess, config.block_bytes,
                       options.done);
  context.progress.end();
  context.progress.begin("eval", stack.num_rows(), "row");
  const Quality quality = measure_quality(dictionary.crosscoder(), rows.rows(), options);
  context.progress.end();
  Outcome outcome{.summary = quality_json(quality, dictionary.steps)};
  outcome.summary["num_rows"] = stack.num_rows();
  outcome.summary["definitions"] = definitions_json(outcome.summary);
  if (options.all_definitions) outcome.summary["batch_rows"] = options.batch_rows;
  outcome.text = text_of(outcome.summary);

  const bool scaled = dictionary.training.input_preprocess == "center_scale";
  std::optional<ExactPca> pca;
  if (config.pca && (output || holds_out || config.baselines))
    pca = exact_pca(rows, scaled, quality.l0, context.progress);
  std::vector<HeldoutQuality> heldout;
  if (holds_out) {
    heldout = run_heldout(config, dictionary, rows, pca, context);
    outcome.summary["heldout"] = heldout_json(heldout);
    outcome.text +=
        "\nheld out\n" + artifacts::to_aligned_text(artifacts::turned(heldout_table(heldout)));
  }
  Table baselines;
  if (config.baselines) {
    baselines = baselines_table(rows, pca, scaled, context.seed(), context.progress);
    outcome.summary["baselines"] = baselines_json(baselines);
    outcome.text +=
        "\nlinear baselines\n" + artifacts::to_aligned_text(what_they_explain(baselines));
  }
  FidelityTables fidelity;
  if (reads_text(config)) {
    fidelity = run_fidelity(config.fidelity, fidelity_inputs(config), dictionary, rows, context);
    outcome.summary["fidelity"] = fidelity.steps;
    outcome.text += text_of_fidelity(fidelity.steps);
  }
  if (!output) return outcome;

  const Path& folder = output->folder();
  std::vector<std::string> tables{"quality_pooled.csv", "quality_per_snapshot.csv"};
  write_csv(folder / tables[0], pooled_table(outcome.summary["pooled"]));
  write_csv(folder / tables[1], snapshot_table(outcome.summary["snapshots"]));
  if (pca) write_csv(folder / tables.emplace_back("pca.csv"), pca->table());
  if (holds_out) {
    write_csv(folder / tables.emplace_back("heldout.csv"), heldout_table(heldout));
    write_csv(folder / tables.emplace_back("heldout_ev.csv"), heldout_reference_table(heldout));
    write_heldout_norms(folder, heldout, tables);
  }
  if (config.baselines) write_csv(folder / tables.emplace_back("linear_baselines.csv"), baselines);
  if (reads_text(config)) {
    write_csv(folder / tables.emplace_back("readout_functional_fidelity.csv"), fidelity.functional);
    write_csv(folder / tables.emplace_back("strata_summary.csv"), fidelity.strata);
  }
  artifacts::Manifest manifest = manifest_of("eval", config, context);
  manifest.inputs = {dictionary_path, stack.path()};
  if (holds_out) manifest.inputs.push_back(config.heldout);
  if (!not_held_out.empty()) manifest.facts["heldout_left_out"] = not_held_out;
  manifest.inputs.insert(manifest.inputs.end(), fidelity.inputs.begin(), fidelity.inputs.end());
  if (reads_text(config)) manifest.facts["fidelity"] = fidelity.facts;
  artifacts::write_manifest(folder, manifest);
  output->commit();
  outcome.summary["tables"] = tables;
  return outcome;
}

}  // namespace cresco::verbs
