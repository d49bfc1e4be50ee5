#include "cresco/verbs/pretrain.h"

#include "cresco/base/hash.h"
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
#include "cresco/verbs/vocabulary.h"

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

std::string plan_text(const Recipe& recipe, const pretrain::RunData& data, at::Device device) {
  const auto parameters = static_cast<double>(families::num_parameters(recipe.model.tensors()));
  const double steps = static_cast<double>(recipe.total_steps());
  const auto snapshots = recipe.snapshot_steps();
  const double gflops = tensor::product_gflops(device, tensor::scalar_type_named(recipe.precision));
  const double work = pretrain::flops_per_step(recipe) * steps;
  return fmt::format(
      "{} parameters, {} steps of {} tokens, {:.2f} epochs of {} windows\n"
      "work: {}FLOP; memory: about {} for weights, gradients and moments\n"
      "disk: {} for {} snapshots\n"
      "time: about {} at half of the {:.0f} GFLOP/s that matrix products of {} reach here\n",
      human_count(parameters), recipe.total_steps(), recipe.tokens_per_step(),
      steps * static_cast<double>(recipe.batch.sequences) /
          static_cast<double>(data.num_training_windows()),
      data.num_training_windows(), human_count(work), human_bytes(parameters * 16),
      human_bytes(parameters * (recipe.snapshots.dtype == "fp32" ? 4 : 2) *
                  static_cast<double>(snapshots.size())),
      snapshots.size(), human_duration(work / (kLikelyUtilisation * gflops * 1e9)), gflops,
      recipe.precision);
}

std::vector<tensor::NamedTensor> initial_weights(const Recipe& recipe) {
  if (recipe.init.from.empty())
    return pretrain::initialise(recipe.model, recipe.init.name,
                                static_cast<std::uint64_t>(recipe.seed));
  const trajectories::Snapshot snapshot = trajectories::open_snapshot(recipe.init.from);
  const std::string differs =
      first_difference(pretrain::architecture_of(snapshot.config(), recipe.model, recipe.init.from),
                       recipe.model.to_json("", {}));
  require(differs.empty(), "{}: is another model than the recipe's: {}", recipe.init.from, differs);
  return models::load_model(snapshot)->weights();
}

// A new run: everything that stands before the first step.
void begin_run(const RunFolder& run, Recipe recipe, const pretrain::RunData& data,
               const Json& data_order, const Path& tokenizer,
               std::optional<std::int64_t> end_of_text, const PretrainVerbConfig& config,
               const VerbContext& context) {
  artifacts::Manifest manifest = manifest_of("pretrain", config, context);
  manifest.settings = fields_to_json(fields_of(recipe));
  add_input_files(data.files(), manifest);
  if (!recipe.init.from.empty())
    for (const Path& file : trajectories::open_snapshot(recipe.init.from).files())
      manifest.inputs.push_back(file);
  if (!config.recipe.empty()) manifest.inputs.emplace_back(config.recipe);
  if (std::filesystem::exists(tokenizer)) {
    manifest.inputs.push_back(tokenizer);
    write_file(run.path / "tokenizer.json", read_file(tokenizer));
  }
  manifest.dtype = recipe.precision;
  write_json_file(run.path / "config.json", recipe.model.to_json("float32", end_of_text));
  write_json_file(run.data_order(), data_order);
  artifacts::write_manifest(run.path, manifest);
  write_file(run.recipe(), fields_to_yaml(fields_of(recipe)));  // last: from here on it is a run
}

// begin_run() was killed before its last file: what it wrote is written again.
void remove_half_made(const RunFolder& run) {
  const std::set<std::string> own{"manifest.json", "config.json", "tokenizer.json",
                                  "data_order.json"};
  std::vector<Path> left;
  for (const auto& entry : std::filesystem::directory_iterator(run.path)) {
    const std::string name = entry.path().filename().string();
    if (name == ".lock") continue;
    if (!own.contains(name) && !name.starts_with(kTemporaryPrefix)) return;
    left.push_back(entry.path());
  }
  for (const Path& file : left) std::filesystem::remove(file);
}

// A change of data_order.json that the recipe's own fields explain is allowed with them.
bool is_allowed(const std::string& path, const std::vector<std::string>& allowed) {
  const auto names = [&](const std::string& field) {
    return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& a) {
      return field == a || field.starts_with(a + ".") || field.starts_with(a + "[");
    });
  };
  if (names(path)) return true;
  constexpr std::string_view kOrder = "data_order.";
  if (!path.starts_with(kOrder)) return false;
  const std::string own = path.substr(kOrder.size());
  if (own == "sequences_per_step") return names("batch.sequences");
  if (own.starts_with("num_"))  // what follows from the rest
    return std::any_of(allowed.begin(), allowed.end(),
                       [](const std::string& a) { return a.starts_with("data"); });
  return names("data." + own);
}

// A misspelt field would allow nothing, and be found out after a change was refused.
void check_allowed(const std::vector<std::string>& allowed) {
  Recipe recipe;
  std::vector<std::string> known{"data_order"};
  const auto add = [&known](const std::string& path, auto&, const char*, const char*) {
    for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1))
      known.push_back(path.substr(0, dot));
    known.push_back(path);
  };
  for (const char* family : {"neox", "gpt2"}) {
    recipe.model.family = family;
    EachField each(add);
    recipe.fields(each);
  }
  for (const std::string& field : allowed) {
    const std::string plain = field.substr(0, field.find('['));
    require_usage(plain == "optimizer.rules" || plain.starts_with("data_order.") ||
                      std::find(known.begin(), known.end(), plain) != known.end(),
                  "--allow-change {}: a recipe has no such field{}", field,
                  did_you_mean(plain, known));
  }
}

// Whether --resume agrees with what stands there.
void require_resumable(const RunFolder& run, bool goes_on, const std::string& resume) {
  const std::string where = run.path.string();
  require(!goes_on || resume != "never", "{}: is a run already; --overwrite replaces it", where);
  if (resume != "must") return;
  require(goes_on, "{}: is not a run, there is nothing to resume", where);
  require(run.is_complete() || !run.states().empty(), "{}: has no state to resume from", where);
}

// What this command changes of the run it goes on with; all of it was allowed.
std::vector<Difference> check_changes(const RunFolder& run, const Recipe& before,
                                      const Recipe& recipe, const Json& data_order,
                                      const PretrainVerbConfig& config) {
  std::vector<Difference> changes = pretrain::recipe_changes(before, recipe);
  for (Difference& change : differences(read_json_file(run.data_order()), data_order, "data_order"))
    changes.push_back(std::move(change));
  for (const Difference& change : changes)
    require(is_allowed(change.path, config.allow_change),
            "{}: cannot go on with {}: {}; --allow-change {} if it is meant", run.path.string(),
            change.path.starts_with("data_order") ? "other data" : "another recipe",
            to_text(change), change.path);
  return changes;
}

// Where the changed recipe takes over: at the newest state. Other data begin at their first window.
pretrain::Beginning beginning_of(const RunFolder& run, const Recipe& before, Recipe recipe,
                                 const Json& data_order) {
  const auto states = run.states();
  require(!states.empty(),
          "{}: has no state to go on from with a changed recipe; --overwrite begins anew",
          run.path.string());
  const std::int64_t step = states.back();
  const bool goes_on = pretrain::same_training_data(read_json_file(run.data_order()), data_order);
  recipe.begins = {
      .step = step, .tokens = before.tokens_at(step), .place = goes_on ? before.place_at(step) : 0};
  require(recipe.total_steps() > step,
          "{}: is at step {}, and the changed recipe ends at step {}: nothing is left to train",
          run.path.string(), step, recipe.total_steps());
  return recipe.begins;
}

// From here on the run is one of the new recipe. What held before stays in earlier/, and the
// manifest says what is another one and since which step. Killed on the way and started again, it
// ends the same.
void record_changes(const RunFolder& run, Recipe recipe, const Json& data_order,
                    const std::vector<Difference>& changes) {
  const std::int64_t step = recipe.begins.step;
  if (step > 0 && !std::filesystem::exists(run.earlier(step))) {
    AtomicFolder earlier(run.earlier(step));
    const RunFolder kept{earlier.folder()};
    write_file(kept.recipe(), read_file(run.recipe()));
    write_file(kept.data_order(), read_file(run.data_order()));
    earlier.commit();
  }
  Json manifest = artifacts::read_manifest(run.path);
  for (const Difference& change : changes) {
    const Json entry{
        {"step", step}, {"field", change.path}, {"before", change.before}, {"now", change.now}};
    Json& all = manifest["changes"];
    if (std::find(all.begin(), all.end(), entry) == all.end()) all.push_back(entry);
  }
  std::filesystem::remove(run.complete());
  write_json_file(artifacts::manifest_path(run.path), manifest);
  write_json_file(run.data_order(), data_order);
  write_file(run.recipe(), fields_to_yaml(fields_of(recipe)));
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
  for (const std::int64_t step : recipe.snapshot_steps())
    if (!std::binary_search(result.snapshots.begin(), result.snapshots.end(), step))
      gone.push_back(step);
  if (!gone.empty())
    outcome.text += fmt::format("{}: snapshots that are no longer there: {}\n", run.path.string(),
                                list_steps(gone));
  return outcome;
}

}  // namespace

Outcome run_pretrain(const PretrainVerbConfig& config, VerbContext& context) {
  Recipe recipe = config.settings;
  require_usage(!recipe.data.sources().empty(), "data.tokens is needed: the prefix of a corpus");
  check_resume(config.resume, context.options.overwrite);
  check_allowed(config.allow_change);
  const auto [tokenizer_path, end_of_text] = resolve_vocabulary(recipe);
  pretrain::check(recipe);
  const pretrain::RunData data = pretrain::RunData::open(recipe);
  if (context.options.dry_run) pretrain::require_all_windows(recipe, data);
  if (context.options.dry_run)
    return {.text = plan_text(recipe, data, tensor::parse_device(context.options.device))};

  require_usage(!context.options.out.empty(), "--out is needed: the run's folder");
  dist::Ranks& ranks = dist::world();
  pretrain::micro_batches(recipe, ranks.size());
  const RunFolder run{context.options.out};
  // Whatever can be wrong is found out before anything is touched.
  const auto initial = initial_weights(recipe);
  optim::check_rules(recipe.optimizer, initial);
  std::unique_ptr<FolderLock> lock;
  Json data_order;
  std::vector<Difference> changes;
  bool goes_on = false, is_done = false;
  if (ranks.first()) {
    goes_on = run.is_run() && !context.options.overwrite;
    require_resumable(run, goes_on, config.resume);
    if (goes_on) {
      lock = std::make_unique<FolderLock>(run.path);
      const Recipe before = run.read_recipe();
      recipe.begins = before.begins;
      data_order = pretrain::data_order(recipe, data);  // hashes the data
      changes = check_changes(run, before, recipe, data_order, config);
      if (!changes.empty()) {
        recipe.begins = beginning_of(run, before, recipe, data_order);
        data_order = pretrain::with_beginning(data_order, recipe.begins);
      }
      is_done = changes.empty() && run.is_complete();
    } else {
      data_order = pretrain::data_order(recipe, data);
    }
  }
  // What the first rank found out, all do.
  is_done = ranks.largest_of(is_done ? 1 : 0) > 0;
  for (std::int64_t* number : {&recipe.begins.step, &recipe.begins.tokens, &recipe.begins.place})
    *number = ranks.largest_of(*number);
  const bool has_changes = ranks.largest_of(changes.empty() ? 0 : 1) > 0;
  pretrain::require_all_windows(recipe, data);
  if (is_done) return ranks.first() ? finished_outcome(run, recipe) : Outcome{};
  if (ranks.first() && !goes_on) {
    std::filesystem::create_directories(run.path);
    lock = std::make_unique<FolderLock>(run.path);
    std::vector<Path> inputs = data.files();
    inputs.insert(inputs.end(), {config.recipe, recipe.init.from});
    remove_half_made(run);
    make_output_folder(run.path, context.options.overwrite, inputs);
    begin_run(run, recipe, data, data_order, tokenizer_path, end_of_text, config, context);
  }

  std::function<void()> record;
  if (!changes.empty()) record = [&] { record_changes(run, recipe, data_order, changes); };
  watch_for_interrupts();
  const at::Device device = tensor::parse_device(context.options.device);
  const double peak = tensor::product_gflops(device, tensor::scalar_type_named(recipe.precision));
  return outcome_of(run, pretrain::pretrain({.recipe = recipe,
                                             .run = run,
                                             .initial = initial,
                                             .end_of_text = end_of_text,
                                             .resume_command = context.resume_command(),
                                             .device = device,
                                             .ranks = &ranks,
                                             .record_changes = record,
                                             .allows_changes = has_changes,
                                             .peak_gflops = ranks.sum_of(peak)},
                                            data, context.progress));
}

}  // namespace cresco::verbs
