#include "cresco/verbs/eval.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/heldout.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/tensor/bridge.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::Dictionary;
using dictionaries::HeldoutQuality;
using dictionaries::PreprocessedStack;
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

// The PCA that the dictionary is compared with: in its own space, and of the raw snapshots about
// their means.
struct Pca {
  std::int64_t rank_of_l0 = 0;
  Table table{{"rank", "explained_variance", "explained_variance_raw"}};
  dictionaries::TrajectoryPca at_l0;
};

std::optional<Pca> run_pca(const StackRows& rows, const Dictionary& dictionary, double l0,
                           Progress& progress) {
  const dictionaries::Rows centred = rows.with_mode("center").rows();
  if (!dictionaries::pca_is_exact_possible(centred)) {
    progress.note(
        fmt::format("no PCA: rows and columns are both more than {}", dictionaries::kMaxExactSize));
    return std::nullopt;
  }
  const dictionaries::TrajectorySpectrum raw(centred, rows.block_bytes());
  const bool scaled = dictionary.training.input_preprocess == "center_scale";
  const dictionaries::TrajectorySpectrum own =
      scaled ? dictionaries::TrajectorySpectrum(rows.rows(), rows.block_bytes()) : raw;

  Pca pca;
  pca.rank_of_l0 = std::clamp<std::int64_t>(std::llround(l0), 1, own.max_rank());
  std::vector<std::int64_t> ranks{16, 32, 64, 128, 256, pca.rank_of_l0};
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  for (const std::int64_t rank : ranks)
    if (rank <= own.max_rank())
      pca.table.add(rank, own.explained_variance(rank), raw.explained_variance(rank));
  pca.at_l0 = own.at_rank(pca.rank_of_l0);
  return pca;
}

std::vector<HeldoutQuality> run_heldout(const EvalConfig& config, const Stack& stack,
                                        const std::vector<std::int64_t>& indices,
                                        const Dictionary& dictionary,
                                        const PreprocessedStack& trained,
                                        const std::optional<Pca>& pca, Progress& progress) {
  const Stack held_out(config.heldout);
  require(held_out.num_rows() == stack.num_rows() && held_out.width() == stack.width(),
          "{}: holds {} x {} matrices, {} holds {} x {}", held_out.path().string(),
          held_out.num_rows(), held_out.width(), stack.path().string(), stack.num_rows(),
          stack.width());
  std::vector<HeldoutQuality> all;
  progress.begin("heldout", held_out.num_snapshots(), "snapshot");
  for (std::int64_t k = 0; k < held_out.num_snapshots(); ++k) {
    const std::int64_t step = held_out.steps()[static_cast<std::size_t>(k)];
    const auto near = dictionaries::neighbours_of(step, dictionary.steps);
    if (!near) continue;  // a trained step, or one outside the trained ones
    const auto raw = [&](std::int64_t head) {
      return stack.at(indices[static_cast<std::size_t>(head)]);
    };
    all.push_back(dictionaries::measure_heldout(dictionary, trained, held_out.at(k),
                                                raw(near->before), raw(near->after), step,
                                                pca ? &pca->at_l0 : nullptr));
    progress.update(k + 1, fmt::format("step {}", step));
  }
  progress.end();
  require(!all.empty(), "{}: has no step between the trained ones {}; it has {}",
          held_out.path().string(), list_steps(dictionary.steps), list_steps(held_out.steps()));
  return all;
}

constexpr const char* kHeldoutIds[] = {
    "explained_variance_synthetic_head",       "explained_variance_nearest_head",
    "explained_variance_direct_interpolation", "explained_variance_pca_at_l0",
    "explained_variance_before_raw",           "explained_variance_after_raw"};

std::vector<double> heldout_values(const HeldoutQuality& q) {
  return {q.synthetic_head, q.nearest_head, q.direct_interpolation, q.pca, q.before, q.after};
}

Json heldout_json(const std::vector<HeldoutQuality>& all) {
  Json list = Json::array();
  for (const HeldoutQuality& q : all) {
    Json row = {{"step", q.step},
                {"step_before", q.step_before},
                {"step_after", q.step_after},
                {"alpha_log", q.alpha_log}};
    const auto values = heldout_values(q);
    for (std::size_t i = 0; i < values.size(); ++i) row[kHeldoutIds[i]] = values[i];
    list.push_back(std::move(row));
  }
  return list;
}

Table heldout_table(const std::vector<HeldoutQuality>& all) {
  std::vector<std::string> columns{"step", "step_before", "step_after", "alpha_log"};
  columns.insert(columns.end(), std::begin(kHeldoutIds), std::end(kHeldoutIds));
  Table table(columns);
  for (const HeldoutQuality& q : all) {
    std::vector<std::string> row{Table::cell(q.step), Table::cell(q.step_before),
                                 Table::cell(q.step_after), Table::cell(q.alpha_log)};
    for (const double value : heldout_values(q)) row.push_back(Table::cell(value));
    table.add_row(row);
  }
  return table;
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
  const Stack stack(config.stack);
  const auto indices = heads_in(stack, dictionary);
  auto options = quality_options(config, dictionary);
  if (reads_text(config))
    check_fidelity(config.fidelity, fidelity_inputs(config), dictionary, stack);
  if (context.options.dry_run) return plan_outcome(config, stack, dictionary);
  const bool writes = !context.options.out.empty(), holds_out = !config.heldout.empty();
  if (holds_out) Stack(config.heldout);  // refused before anything is replaced
  if (writes)
    make_output_folder(context.options.out, context.options.overwrite,
                       {dictionary_path, config.stack, config.heldout, config.trajectory,
                        config.corpus, config.tokenizer});

  watch_for_interrupts();
  const StackRows rows(stack, indices, dictionary.training.input_preprocess, config.block_bytes);
  context.progress.begin("eval", stack.num_rows(), "row");
  options.done = [&](std::int64_t done) {
    if (interrupted()) throw Interrupted("interrupted before a table was written");
    context.progress.update(done, "");
  };
  const Quality quality = measure_quality(dictionary.crosscoder(), rows.rows(), options);
  context.progress.end();
  Outcome outcome{.summary = quality_json(quality, dictionary.steps)};
  outcome.summary["num_rows"] = stack.num_rows();
  outcome.summary["definitions"] = definitions_json(outcome.summary);
  if (options.all_definitions) outcome.summary["batch_rows"] = options.batch_rows;
  outcome.text = text_of(outcome.summary);

  std::optional<Pca> pca;
  if (config.pca && (writes || holds_out))
    pca = run_pca(rows, dictionary, quality.l0, context.progress);
  std::vector<HeldoutQuality> heldout;
  if (holds_out) {
    const PreprocessedStack trained = dictionaries::preprocess_stack(
        stack, indices, dictionary.training.input_preprocess, at::kCPU);
    heldout = run_heldout(config, stack, indices, dictionary, trained, pca, context.progress);
    outcome.summary["heldout"] = heldout_json(heldout);
    outcome.text += "\nheld out\n" + to_csv(heldout_table(heldout));
  }
  FidelityTables fidelity;
  if (reads_text(config)) {
    fidelity = run_fidelity(config.fidelity, fidelity_inputs(config), dictionary, rows, context);
    outcome.summary["fidelity"] = fidelity.steps;
    outcome.text += text_of_fidelity(fidelity.steps);
  }
  if (!writes) return outcome;

  const Path folder = context.options.out;
  std::vector<std::string> tables{"quality_pooled.csv", "quality_per_snapshot.csv"};
  write_csv(folder / tables[0], pooled_table(outcome.summary["pooled"]));
  write_csv(folder / tables[1], snapshot_table(outcome.summary["snapshots"]));
  if (pca) write_csv(folder / tables.emplace_back("pca.csv"), pca->table);
  if (holds_out) write_csv(folder / tables.emplace_back("heldout.csv"), heldout_table(heldout));
  if (reads_text(config)) {
    write_csv(folder / tables.emplace_back("readout_functional_fidelity.csv"), fidelity.functional);
    write_csv(folder / tables.emplace_back("readout_fidelity_strata.csv"), fidelity.strata);
  }
  artifacts::Manifest manifest = manifest_of("eval", config, context);
  manifest.inputs = {dictionary_path, stack.path()};
  if (holds_out) manifest.inputs.push_back(config.heldout);
  manifest.inputs.insert(manifest.inputs.end(), fidelity.inputs.begin(), fidelity.inputs.end());
  if (reads_text(config)) manifest.facts["fidelity"] = fidelity.facts;
  artifacts::write_manifest(folder, manifest);
  outcome.summary["tables"] = tables;
  return outcome;
}

}  // namespace cresco::verbs
