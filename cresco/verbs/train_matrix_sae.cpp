#include "cresco/verbs/train_matrix_sae.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/hash.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/kind_settings.h"
#include "cresco/dictionaries/matrix_sae_training.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/training.h"
#include "cresco/dictionaries/training_folder.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"
#include "cresco/verbs/train_members.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <limits>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::FoldQuality;
using dictionaries::MatrixSaeConfig;
using dictionaries::MatrixSaeOutcome;
using dictionaries::MatrixSaeRun;
using trajectories::Stack;

constexpr const char* kVerb = "train-sae";
constexpr const char* kMetrics[] = {"mse",           "fve",      "l0",        "l0_std",
                                    "dead_features", "dead_pct", "train_fve", "val_fve"};

MatrixSaeRun run_of(const TrainMatrixSaeConfig& config, const Stack& stack,
                    const VerbContext& context) {
  MatrixSaeConfig training = config.training;
  dictionaries::matrix_sae_class(training.sae_class);  // is there such a class
  require_used(dictionaries::settings_of_classes(), "class", training.sae_class, context.given);
  keep_given_size(context.given, training.d_sae, training.expansion_factor);
  MatrixSaeRun run{.training = dictionaries::resolved(training, stack.width()),
                   .name = "dictionary",
                   .model_name = stack.info().model,
                   .matrix = stack.info().matrix,
                   .seed = context.seed(),
                   .resume = config.resume,
                   .log_every = config.log_every,
                   .state_every = config.state_every,
                   .skip_complete = true,
                   .resume_command = context.resume_command(),
                   .manifest = manifest_of(kVerb, config, context),
                   .stop_requested = interrupted};
  run.manifest.inputs = {stack.path()};
  dictionaries::check(run);
  check_resume(config.resume, context.options.overwrite);
  return run;
}

// What cannot fit is refused before anything is written.
double required_memory(const MatrixSaeRun& run, const Stack& stack) {
  const double bytes =
      dictionaries::matrix_sae_bytes(run.training, stack.num_rows(), stack.width());
  const auto available = static_cast<double>(available_bytes());
  require(bytes <= available,
          "{}: training {} features on all {} rows at once takes about {}, {} are there: a smaller "
          "d_sae may fit, or `train --kind sae`, which takes batches",
          stack.path().string(), run.training.d_sae, stack.num_rows(), human_bytes(bytes),
          human_bytes(available));
  return bytes;
}

std::string name_of(const MatrixSaeRun& run, std::int64_t step) {
  return fmt::format("{}_{}_d{}_step{}_seed{}", run.matrix, run.training.sae_class,
                     run.training.d_sae, step, run.seed);
}

Path folder_of(const Path& out, std::int64_t step) { return out / fmt::format("step{}", step); }

at::Tensor rows_of(const Stack& stack, std::int64_t step, const std::string& mode) {
  const at::Tensor matrix_VD = stack.at(stack.indices({step}).front());
  return dictionaries::preprocess(matrix_VD, dictionaries::snapshot_statistics(matrix_VD, mode));
}

Outcome plan_outcome(const MatrixSaeRun& run, const Stack& stack,
                     const std::vector<std::int64_t>& steps, double memory) {
  const MatrixSaeConfig& c = run.training;
  const double flops = dictionaries::matrix_sae_flops(c, stack.num_rows(), stack.width());
  return {.summary = {{"steps", steps},
                      {"epochs", c.n_epochs},
                      {"flops", flops * static_cast<double>(steps.size())},
                      {"memory_bytes", memory}},
          .text = fmt::format("{}: {} features of {} ({} x {}) at each of {} steps\n{} epochs "
                              "each, {:.3g} FLOPs, about {} of memory\n",
                              c.sae_class, c.d_sae, stack.info().matrix, stack.num_rows(),
                              stack.width(), steps.size(), c.n_epochs, flops, human_bytes(memory))};
}

Table fold_table() {
  return Table({"step", "fold", "epochs", "stopped", "train_fve", "val_fve", "val_mse", "val_l0"});
}

// The folds of one step: those that stand in its folder, which only a training with the same
// settings can have left, or else new ones.
Table folds_of(const TrainMatrixSaeConfig& config, const MatrixSaeRun& run, const at::Tensor& x_VD,
               const Path& folder, Progress& progress) {
  const Path path = folder / "cross_validation.csv";
  if (std::filesystem::exists(path)) {
    Table found = artifacts::read_csv(path);
    if (static_cast<std::int64_t>(found.num_rows()) == config.folds &&
        found.columns() == fold_table().columns())
      return found;
  }
  Table table = fold_table();
  const auto folds = dictionaries::cross_validate(run.training, run.seed, x_VD, config.folds,
                                                  progress, run.stop_requested, run.resume_command);
  for (std::size_t i = 0; i < folds.size(); ++i) {
    const FoldQuality& fold = folds[i];
    table.add(run.step, i, fold.epochs, dictionaries::name_of(fold.stopped), fold.train.fve,
              fold.held_out.fve, fold.held_out.mse, fold.held_out.l0);
  }
  artifacts::write_csv(path, table);
  return table;
}

double metric(const Json& quality, const char* id) {
  const auto found = quality.find(id);
  return found != quality.end() && found->is_number() ? found->get<double>()
                                                      : std::numeric_limits<double>::quiet_NaN();
}

// What has been made so far, as tables, as JSON and for people.
class Results {
 public:
  Results(const MatrixSaeRun& run, bool with_folds) : run_(run), with_folds_(with_folds) {
    std::vector<std::string> columns{"step", "class", "d_sae", "epochs", "stopped"};
    columns.insert(columns.end(), std::begin(kMetrics), std::end(kMetrics));
    saes_ = Table(columns);
  }

  void add(std::int64_t step, const MatrixSaeOutcome& made, const Table& folds) {
    std::vector<std::string> cells{Table::cell(step), run_.training.sae_class,
                                   Table::cell(run_.training.d_sae), Table::cell(made.epochs),
                                   made.stopped};
    Json metrics = Json::object();
    for (const char* id : kMetrics) {
      cells.push_back(Table::cell(metric(made.quality, id)));
      if (made.quality.contains(id)) metrics[id] = made.quality[id];
    }
    saes_.add_row(cells);
    Json entry{{"step", step},
               {"file", made.files[0].string()},
               {"epochs", made.epochs},
               {"stopped", made.stopped},
               {"was_complete", made.was_complete},
               {"metrics", metrics}};
    double val_fve = 0;
    for (std::size_t i = 0; i < folds.num_rows(); ++i) {
      folds_.add_row(folds.row(i));
      val_fve += folds.number(i, "val_fve") / static_cast<double>(folds.num_rows());
      Json fold = Json::object();
      for (const char* id : {"train_fve", "val_fve", "val_mse", "val_l0"})
        fold[id] = folds.number(i, id);
      entry["folds"].push_back(fold);
    }
    dictionaries_.push_back(entry);
    text_ += fmt::format("{:>10} {:>10.4f} {:>10.2f} {:>14} {:>8}{}{}\n", step,
                         metric(made.quality, "fve"), metric(made.quality, "l0"),
                         metric(made.quality, "dead_features"), made.epochs,
                         with_folds_ ? fmt::format(" {:>14.4f}", val_fve) : "",
                         made.was_complete      ? "  (was complete)"
                         : made.stopped.empty() ? ""
                                                : "  (" + made.stopped + ")");
  }

  Outcome write(const Path& folder) const {
    Outcome outcome;
    Json tables = Json::array();
    const auto table = [&](const char* name, const Table& contents) {
      artifacts::write_csv(folder / name, contents);
      tables.push_back((folder / name).string());
    };
    table("saes.csv", saes_);
    if (with_folds_) table("cross_validation.csv", folds_);
    artifacts::write_manifest(folder, run_.manifest);
    outcome.summary = {
        {"folder", folder.string()}, {"dictionaries", dictionaries_}, {"tables", tables}};
    outcome.text =
        fmt::format("{:>10} {:>10} {:>10} {:>14} {:>8}{}\n{}", "step", "fve", "l0", "dead_features",
                    "epochs", with_folds_ ? fmt::format(" {:>14}", "val_fve (mean)") : "", text_);
    return outcome;
  }

 private:
  const MatrixSaeRun& run_;
  bool with_folds_;
  Table saes_, folds_ = fold_table();
  Json dictionaries_ = Json::array();
  std::string text_;
};

void refuse_foreign_folder(const Path& folder) {
  const Json manifest = artifacts::read_manifest(folder);
  if (!manifest.is_object()) return;
  const std::string verb = manifest.value("verb", "");
  require(verb == kVerb, "{}: holds what `cresco {}` wrote; name another --out", folder.string(),
          escape_for_terminal(verb));
}

}  // namespace

std::vector<std::string> kinds_of_train_sae() {
  const auto& taken = dictionaries::training_kinds();
  std::vector<std::string> kinds;
  for (const auto& known : dictionaries::matrix_sae_classes())
    if (std::find(taken.begin(), taken.end(), known.name) == taken.end())
      kinds.emplace_back(known.name);
  return kinds;
}

Outcome run_train_matrix_sae(const TrainMatrixSaeConfig& config, VerbContext& context) {
  require_cpu(context, kVerb);
  const Stack stack(config.stack);
  MatrixSaeRun run = run_of(config, stack, context);
  require_usage(config.folds == 0 || (config.folds >= 2 && config.folds <= stack.num_rows()),
                "folds is {}, expected 0 or from 2 to the {} rows", config.folds, stack.num_rows());
  const auto steps = trajectories::choose_steps(config.steps, stack.steps(), stack.path().string());
  const double memory = required_memory(run, stack);
  if (context.options.dry_run) return plan_outcome(run, stack, steps, memory);
  const Path folder = context.options.out;
  require_usage(!folder.empty(), "--out is needed: the folder to write");

  watch_for_interrupts();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const FolderLock lock(folder);
  refuse_foreign_folder(folder);
  run.provenance = {{"stack", stack.path().filename().string()},
                    {"stack_sha256", sha256_of_file(stack.path())}};
  // All at once: what goes on after an interrupt is the command without --overwrite.
  if (context.options.overwrite)
    for (const std::int64_t step : steps)
      make_output_folder(folder_of(folder, step), /*overwrite=*/true, run.manifest.inputs);
  Results results(run, config.folds > 0);
  for (const std::int64_t step : steps) {
    const Path of_step = folder_of(folder, step);
    const at::Tensor x_VD = rows_of(stack, step, run.training.input_preprocess);
    run.step = step;
    run.name = name_of(run, step);
    const auto made = dictionaries::train_matrix_sae(run, x_VD, of_step, context.progress);
    results.add(
        step, made,
        config.folds > 0 ? folds_of(config, run, x_VD, of_step, context.progress) : fold_table());
  }
  return results.write(folder);
}

}  // namespace cresco::verbs
