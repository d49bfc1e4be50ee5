#include "cresco/verbs/pretrain.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/models/model.h"
#include "cresco/pretrain/batch_reader.h"
#include "cresco/pretrain/pretrain.h"
#include "cresco/tensor/product_rate.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/input_files.h"
#include "cresco/verbs/run_settings.h"

#include <ATen/ATen.h>

#include <set>

namespace cresco::verbs {
namespace {

using pretrain::Recipe;
using pretrain::RunFolder;

Fields fields_of(Recipe& recipe) {
  return [&recipe](FieldVisitor& v) { recipe.fields(v); };
}

// A guess: a step reaches half of what the machine's products of that precision do.
constexpr double kLikelyUtilisation = 0.5;

// What is left after `first_step`.
std::string plan_text(const Recipe& recipe, const pretrain::RunData& data, std::int64_t first_step,
                      at::Device device) {
  const auto parameters = static_cast<double>(families::num_parameters(recipe.model.tensors()));
  const std::int64_t num_steps = recipe.total_steps() - first_step;
  const double steps = static_cast<double>(num_steps);
  auto snapshots = recipe.snapshot_steps();
  if (first_step > 0) std::erase_if(snapshots, [&](auto step) { return step <= first_step; });
  const double gflops = tensor::product_gflops(device, tensor::scalar_type_named(recipe.precision));
  const double work = pretrain::flops_per_step(recipe) * steps;
  return fmt::format(
      "{} parameters, {} steps of {} tokens, {:.2f} epochs of {} windows\n"
      "work: {}FLOP; memory: about {} for weights, gradients and moments\n"
      "disk: {} for {} snapshots\n"
      "time: about {} at half of the {:.0f} GFLOP/s that matrix products of {} reach here\n",
      human_count(parameters), num_steps, recipe.tokens_per_step(),
      steps * static_cast<double>(recipe.batch.sequences) /
          static_cast<double>(data.num_training_windows()),
      data.num_training_windows(), human_count(work), human_bytes(parameters * 16),
      human_bytes(parameters * (recipe.snapshots.dtype == "fp32" ? 4 : 2) *
                  static_cast<double>(snapshots.size())),
      snapshots.size(), human_duration(work / (kLikelyUtilisation * gflops * 1e9)), gflops,
      recipe.precision);
}

// What the optimizer's rules and the snapshot to start from say, without the weights.
void check_start(const Recipe& recipe) {
  std::vector<tensor::NamedTensor> shapes;
  for (const families::TensorSpec& spec : recipe.model.tensors())
    shapes.emplace_back(spec.name, at::empty(spec.shape, at::TensorOptions(at::kMeta)));
  optim::check_rules(recipe.optimizer, shapes);
  if (recipe.init.from.empty()) return;
  const trajectories::Snapshot snapshot = trajectories::open_snapshot(recipe.init.from);
  const std::string differs =
      first_difference(pretrain::architecture_of(snapshot.config(), recipe.model, recipe.init.from),
                       recipe.model.to_json("", {}));
  require(differs.empty(), "{}: is another model than the recipe's: {}", recipe.init.from, differs);
}

std::vector<tensor::NamedTensor> initial_weights(const Recipe& recipe) {
  if (recipe.init.from.empty())
    return pretrain::initialise(recipe.model, recipe.init.name,
                                static_cast<std::uint64_t>(recipe.seed));
  return models::load_model(trajectories::open_snapshot(recipe.init.from))->weights();
}

// A new run: everything that stands before the first step.
void begin_run(const RunFolder& run, const RunSettings& settings, const pretrain::RunData& data,
               const PretrainVerbConfig& config, const VerbContext& context) {
  Recipe recipe = settings.recipe;
  artifacts::Manifest manifest = manifest_of("pretrain", config, context);
  manifest.settings = fields_to_json(fields_of(recipe));
  add_input_files(data.files(), manifest);
  if (!recipe.init.from.empty())
    for (const Path& file : trajectories::open_snapshot(recipe.init.from).files())
      manifest.inputs.push_back(file);
  if (!config.recipe.empty()) manifest.inputs.emplace_back(config.recipe);
  if (std::filesystem::exists(settings.vocabulary.tokenizer))
    manifest.inputs.push_back(settings.vocabulary.tokenizer);
  manifest.dtype = recipe.precision;
  artifacts::write_manifest(run.path, manifest);
  write_settings(run, settings);
}

// begin_run() was killed before its last file: what it wrote is written again.
void remove_half_made(const RunFolder& run) {
  const Path manifest = run.path / "manifest.json";  // which is written first
  if (!std::filesystem::exists(manifest)) return;
  const Json said = read_json_file(manifest);
  if (!said.is_object() || said.value("verb", "") != "pretrain") return;
  const std::set<std::string> own{"manifest.json", "config.json", "tokenizer.json",
                                  "data_order.json"};
  std::vector<Path> left;
  for (const auto& entry : std::filesystem::directory_iterator(run.path)) {
    const std::string name = entry.path().filename().string();
    if (name == ".lock") continue;
    if (!own.contains(name) && !name.starts_with(kTemporaryPrefix)) return;
    left.push_back(entry.path());
  }
  for (const Path& entry : left)
    if (entry != manifest) std::filesystem::remove_all(entry);
  std::filesystem::remove(manifest);
}

// Whether --resume agrees with what stands there.
void require_resumable(const RunFolder& run, bool goes_on, const std::string& resume) {
  const std::string where = run.path.string();
  require(!goes_on || resume != "never", "{}: is a run already; --overwrite replaces it", where);
  if (resume != "must") return;
  require(goes_on, "{}: is not a run, there is nothing to resume", where);
  require(run.is_complete() || !run.states().empty(), "{}: has no state to resume from", where);
}

Outcome outcome_of(const RunFolder& run, const pretrain::PretrainResult& result) {
  Outcome outcome{
      .summary = {{"step", result.step},
                  {"tokens", result.tokens},
                  {"train_loss", result.train_loss},
                  {"val_loss", result.val_loss},
                  {"tokens_per_second", result.tokens_per_second},
                  {"snapshots", result.snapshots}},
      .text = fmt::format(
          "{}: step {}, {} tokens, train loss {:.4f}, validation loss {:.4f}, {} snapshots",
          run.path.string(), result.step, human_count(static_cast<double>(result.tokens)),
          result.train_loss, result.val_loss, result.snapshots.size())};
  if (result.seconds > 0) {
    outcome.summary["seconds"] = result.seconds;
    outcome.summary["snapshot_seconds"] = result.snapshot_seconds;
    outcome.text += fmt::format(", which training waited for {:.2f} % of the time",
                                100 * result.snapshot_seconds / result.seconds);
  }
  outcome.text += "\n";
  return outcome;
}

// Of a run that was complete before.
Outcome finished_outcome(const RunFolder& run, const Recipe& recipe) {
  const pretrain::PretrainResult result = pretrain::finished_result(recipe, run);
  Outcome outcome = outcome_of(run, result);
  std::vector<std::int64_t> gone;
  for (const std::int64_t step : run.due_snapshots())
    if (!std::binary_search(result.snapshots.begin(), result.snapshots.end(), step))
      gone.push_back(step);
  if (!gone.empty())
    outcome.text += fmt::format("{}: snapshots that are no longer there: {}\n", run.path.string(),
                                list_steps(gone));
  return outcome;
}

}  // namespace

Outcome run_pretrain(const PretrainVerbConfig& config, VerbContext& context) {
  RunSettings settings{.recipe = config.settings};
  Recipe& recipe = settings.recipe;
  const CommonOptions& options = context.options;
  require_usage(!recipe.data.sources().empty(), "data.tokens is needed: the prefix of a corpus");
  require_usage(options.dry_run || !options.out.empty(), "--out is needed: the run's folder");
  check_resume(config.resume, options.overwrite);
  check_allowed(config.allow_change);
  settings.vocabulary = resolve_vocabulary(recipe);
  pretrain::check(recipe);
  // Whatever can be wrong is found out before anything is touched.
  const pretrain::RunData data = pretrain::RunData::open(recipe);
  for (const std::string& warning : data.warnings()) context.progress.note(warning);
  dist::Ranks& ranks = dist::world();
  pretrain::micro_batches(recipe, ranks.size());
  check_start(recipe);
  const RunFolder run{options.out};
  std::unique_ptr<FolderLock> lock;
  std::vector<Difference> changes;
  bool goes_on = false, is_done = false;
  std::int64_t first_step = 0;
  if (ranks.first()) {
    goes_on = !options.out.empty() && run.is_run() && !options.overwrite;
    require_resumable(run, goes_on, config.resume);
    if (goes_on && !options.dry_run) lock = std::make_unique<FolderLock>(run.path);
    if (goes_on || !options.dry_run)
      settings.data_order = pretrain::data_order(recipe, data);  // hashes the data
    if (goes_on) changes = changes_of(run, settings, config.allow_change);
    is_done = goes_on && changes.empty() && run.is_complete();
    if (goes_on && !run.states().empty()) first_step = run.states().back();
    if (is_done) first_step = recipe.total_steps();
  }
  // What the first rank found out, all do.
  is_done = ranks.largest_of(is_done ? 1 : 0) > 0;
  for (std::int64_t* number : {&recipe.begins.step, &recipe.begins.tokens, &recipe.begins.place})
    *number = ranks.largest_of(*number);
  pretrain::require_all_windows(recipe, data);
  const at::Device device = tensor::parse_device(options.device);
  if (options.dry_run)
    return {.text = (is_done ? fmt::format("{}: is complete\n", run.path.string())
                     : goes_on
                         ? fmt::format("{}: goes on from step {}\n", run.path.string(), first_step)
                         : "") +
                    plan_text(recipe, data, first_step, device)};
  if (is_done) return ranks.first() ? finished_outcome(run, recipe) : Outcome{};
  const auto initial = initial_weights(recipe);  // may fail, too
  if (ranks.first() && !goes_on) {
    std::filesystem::create_directories(run.path);
    lock = std::make_unique<FolderLock>(run.path);
    std::vector<Path> inputs = data.files();
    inputs.insert(inputs.end(), {config.recipe, recipe.init.from});
    remove_half_made(run);
    make_output_folder(run.path, options.overwrite, inputs);
    begin_run(run, settings, data, config, context);
  }
  ranks.wait_for_all();  // before any looks for states

  std::function<void()> record;
  if (!changes.empty()) record = [&] { record_changes(run, settings, changes); };
  watch_for_interrupts();
  const double peak = tensor::product_gflops(device, tensor::scalar_type_named(recipe.precision));
  return outcome_of(run, pretrain::pretrain({.recipe = recipe,
                                             .run = run,
                                             .initial = initial,
                                             .end_of_text = settings.vocabulary.end_of_text,
                                             .resume_command = context.resume_command(),
                                             .device = device,
                                             .ranks = &ranks,
                                             .record_changes = record,
                                             .peak_gflops = ranks.sum_of(peak)},
                                            data, context.progress));
}

}  // namespace cresco::verbs
