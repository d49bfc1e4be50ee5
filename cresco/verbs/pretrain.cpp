#include "cresco/verbs/pretrain.h"

#include "cresco/base/hash.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/models/model.h"
#include "cresco/pretrain/pretrain.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"

#include <ATen/ATen.h>

#include <set>

namespace cresco::verbs {
namespace {

using pretrain::Recipe;
using pretrain::RunFolder;

Fields fields_of(Recipe& recipe) {
  return [&recipe](FieldVisitor& v) { recipe.fields(v); };
}

std::string plan_text(const Recipe& recipe, const pretrain::RunData& data) {
  const auto parameters =
      static_cast<double>(families::num_parameters(families::neox_tensors(recipe.model.neox)));
  const double steps = static_cast<double>(recipe.total_steps());
  const auto snapshots = trajectories::snapshot_schedule(recipe.snapshots.at, recipe.total_steps(),
                                                         recipe.tokens_per_step());
  return fmt::format(
      "{} parameters, {} steps of {} tokens, {:.2f} epochs of {} windows\n"
      "work: {}FLOP; memory: about {} for weights, gradients and moments\n"
      "disk: {} for {} snapshots\n",
      human_count(parameters), recipe.total_steps(), recipe.tokens_per_step(),
      steps * static_cast<double>(recipe.batch.sequences) /
          static_cast<double>(data.training.size()),
      data.training.size(), human_count(pretrain::flops_per_step(recipe) * steps),
      human_bytes(parameters * 16),
      human_bytes(parameters * (recipe.snapshots.dtype == "fp32" ? 4 : 2) *
                  static_cast<double>(snapshots.size())),
      snapshots.size());
}

std::vector<tensor::NamedTensor> initial_weights(const Recipe& recipe) {
  if (recipe.init.from.empty())
    return models::initialise(recipe.model.neox, recipe.init.name,
                              static_cast<std::uint64_t>(recipe.seed));
  const trajectories::Snapshot snapshot = trajectories::open_snapshot(recipe.init.from);
  const auto config = families::neox_from_json(snapshot.config(), snapshot.where());
  require(
      families::neox_to_json(config, "", {}) == families::neox_to_json(recipe.model.neox, "", {}),
      "{}: its config is not the recipe's model", recipe.init.from);
  return models::load_model(snapshot)->weights();
}

// A new run: everything that stands before the first step.
void begin_run(const RunFolder& run, Recipe recipe, const pretrain::RunData& data,
               const Path& tokenizer, std::optional<std::int64_t> end_of_text,
               const PretrainVerbConfig& config, const VerbContext& context) {
  artifacts::Manifest manifest = manifest_of("pretrain", config, context);
  manifest.settings = fields_to_json(fields_of(recipe));
  const formats::TokenFile corpus(recipe.data.tokens);
  manifest.inputs = {corpus.bin_path(), corpus.idx_path()};
  if (!pretrain::is_share(recipe.data.validation)) {
    const formats::TokenFile validation(recipe.data.validation);
    manifest.inputs.insert(manifest.inputs.end(), {validation.bin_path(), validation.idx_path()});
  }
  if (!recipe.init.from.empty())
    for (const Path& file : trajectories::open_snapshot(recipe.init.from).files())
      manifest.inputs.push_back(file);
  if (!config.recipe.empty()) manifest.inputs.emplace_back(config.recipe);
  if (std::filesystem::exists(tokenizer)) {
    manifest.inputs.push_back(tokenizer);
    write_file(run.path / "tokenizer.json", read_file(tokenizer));
  }
  manifest.dtype = recipe.precision;
  write_json_file(run.path / "config.json",
                  families::neox_to_json(recipe.model.neox, "float32", end_of_text));
  write_json_file(run.data_order(), pretrain::data_order(recipe, data));
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

void check_resume(const RunFolder& run, const Recipe& recipe, const pretrain::RunData& data,
                  const PretrainVerbConfig& config) {
  require(config.resume != "never", "{}: is a run already; --overwrite replaces it",
          run.path.string());
  pretrain::require_same_recipe(run, recipe);
  const std::string changed =
      first_difference(read_json_file(run.data_order()), pretrain::data_order(recipe, data));
  require(changed.empty(), "{}: cannot go on with other data than it began with: {}",
          run.path.string(), changed);
  require(config.resume != "must" || run.is_complete() || !run.states().empty(),
          "{}: has no state to resume from", run.path.string());
}

Outcome outcome_of(const RunFolder& run, const pretrain::PretrainResult& result) {
  return {.summary = {{"step", result.step},
                      {"tokens", result.tokens},
                      {"train_loss", result.train_loss},
                      {"val_loss", result.val_loss},
                      {"tokens_per_second", result.tokens_per_second},
                      {"snapshots", result.snapshots}},
          .text = fmt::format(
              "{}: step {}, {} tokens, train loss {:.4f}, validation loss {:.4f}, {} snapshots\n",
              run.path.string(), result.step, human_count(static_cast<double>(result.tokens)),
              result.train_loss, result.val_loss, result.snapshots.size())};
}

}  // namespace

Outcome run_pretrain(const PretrainVerbConfig& config, VerbContext& context) {
  Recipe recipe = config.settings;
  require_usage(!recipe.data.tokens.empty(), "data.tokens is needed: the prefix of a corpus");
  require_usage(config.resume == "auto" || config.resume == "never" || config.resume == "must",
                "--resume '{}' is not one of auto, never, must", config.resume);
  require_usage(config.resume != "must" || !context.options.overwrite,
                "--resume must goes on from a state, --overwrite removes it: give one of them");
  const auto corpus = std::make_shared<formats::TokenFile>(recipe.data.tokens);
  const Path tokenizer_path = corpora::corpus_tokenizer_path(recipe.data.tokens);
  std::optional<std::int64_t> end_of_text;
  if (std::filesystem::exists(tokenizer_path)) {
    const text::Tokenizer tokenizer = text::read_tokenizer(tokenizer_path);
    end_of_text = tokenizer.end_of_text();
    if (recipe.model.neox.vocab_size == 0) recipe.model.neox.vocab_size = tokenizer.vocab_size();
    require(tokenizer.vocab_size() <= recipe.model.neox.vocab_size,
            "{}: the tokenizer has {} tokens, more than model.vocab_size {}",
            tokenizer_path.string(), tokenizer.vocab_size(), recipe.model.neox.vocab_size);
  }
  pretrain::check(recipe);
  const auto validation = pretrain::is_share(recipe.data.validation)
                              ? nullptr
                              : std::make_shared<formats::TokenFile>(recipe.data.validation);
  const pretrain::RunData data = pretrain::RunData::open(recipe, corpus, validation);
  if (context.options.dry_run) return {.text = plan_text(recipe, data)};

  require_usage(!context.options.out.empty(), "--out is needed: the run's folder");
  const RunFolder run{context.options.out};
  // Whatever can be wrong is found out before anything is touched.
  const auto initial = initial_weights(recipe);
  optim::check_rules(recipe.optimizer, initial);
  const bool goes_on = run.is_run() && !context.options.overwrite;
  if (goes_on)
    check_resume(run, recipe, data, config);
  else
    require(config.resume != "must", "{}: is not a run, there is nothing to resume",
            run.path.string());
  std::filesystem::create_directories(run.path);
  const FolderLock lock(run.path);
  if (goes_on && run.is_complete()) return outcome_of(run, pretrain::finished_result(recipe, run));
  if (!goes_on) {
    const std::vector<Path> inputs{corpus->bin_path(), config.recipe, recipe.init.from,
                                   recipe.data.validation};
    remove_half_made(run);
    make_output_folder(run.path, context.options.overwrite, inputs);
    begin_run(run, recipe, data, tokenizer_path, end_of_text, config, context);
  }

  watch_for_interrupts();
  const pretrain::PretrainJob job{recipe,
                                  run,
                                  initial,
                                  end_of_text,
                                  context.resume_command(),
                                  -1,
                                  tensor::parse_device(context.options.device)};
  return outcome_of(run, pretrain::pretrain(job, data, context.progress));
}

}  // namespace cresco::verbs
