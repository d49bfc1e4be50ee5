#include "cresco/verbs/train.h"

#include "cresco/artifacts/table.h"
#include "cresco/artifacts/table_text.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/sweep.h"
#include "cresco/dictionaries/whole_step.h"
#include "cresco/dist/ranks.h"
#include "cresco/tensor/bridge.h"
#include "cresco/verbs/recipes.h"
#include "cresco/verbs/train_manifest.h"
#include "cresco/verbs/train_members.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace cresco::verbs {
namespace {

using dictionaries::SweepMember;
using dictionaries::TrainingData;
using dictionaries::TrainingPlan;
using dictionaries::TrainingRun;
using trajectories::Stack;

// Ranks share the heads of one dictionary.
void require_shareable(const TrainConfig& config, const std::vector<Member>& members) {
  const int ranks = dist::world().size();
  if (ranks == 1) return;
  require_usage(members.size() == 1 && config.sweep.empty(),
                "{} ranks share the heads of one dictionary, here are {}: start one rank", ranks,
                members.size());
  require_usage(config.kind != "gated" && config.kind != "jumprelu",
                "kind {} is trained by one rank, here are {}", config.kind, ranks);
  const std::size_t heads = members[0].indices.size();
  require_usage(heads % static_cast<std::size_t>(ranks) == 0,
                "{} snapshots cannot be shared by {} ranks: the number of ranks has to divide it",
                heads, ranks);
}

Outcome plan_outcome(const std::vector<TrainingPlan>& plans, const std::vector<TrainingRun>& runs,
                     const Stack& stack, std::size_t heads) {
  double flops = 0, memory = 0, shared = 0;
  std::int64_t steps = 0;
  for (const TrainingPlan& plan : plans) {
    flops += plan.flops;
    steps += plan.last_step;
    memory += plan.memory_bytes - plan.shared_bytes;
    shared = plan.shared_bytes;
  }
  memory += shared;
  Outcome outcome;
  outcome.summary = {{"name", runs[0].name}, {"trainings", plans.size()},
                     {"steps", steps},       {"schedule_steps", plans[0].num_steps},
                     {"flops", flops},       {"memory_bytes", memory}};
  outcome.text = fmt::format(
      "{}: {} features over {} snapshots of {} ({} x {})\n{}{} steps of {}, {:.3g} FLOPs as dense "
      "products, about {} of memory\n",
      runs[0].name, runs[0].training.d_sae, heads, stack.info().matrix, stack.num_rows(),
      stack.width(), plans.size() > 1 ? fmt::format("{} trainings, ", plans.size()) : "", steps,
      plans[0].num_steps * static_cast<std::int64_t>(plans.size()), flops, human_bytes(memory));
  return outcome;
}

void write_line(const TrainConfig& config, const Stack& stack,
                const dictionaries::TrainingOutcome& trained) {
  if (config.append_manifest)
    append_to_manifest(config.manifest_path, trained, config.kind, stack, config.manifest_notes);
}

Outcome train_one(const TrainConfig& config, const TrainingRun& run, const TrainingPlan& plan,
                  const Stack& stack, const std::vector<std::int64_t>& indices, const Path& folder,
                  at::Device device, Progress& progress) {
  const TrainingData data =
      dictionaries::load_training_data(stack, indices, run, "", {&dist::world()}, device);
  const auto trained = dictionaries::train_crosscoder(run, data, folder, progress);
  if (!dist::world().first()) return {};
  write_line(config, stack, trained);
  Outcome outcome;
  Json files = Json::array();
  for (const Path& file : trained.files) files.push_back(file.string());
  outcome.summary = {{"name", run.name},
                     {"files", files},
                     {"metrics", dictionaries::quality_json(trained.quality, data.steps)},
                     {"step", plan.last_step},
                     {"folder", folder.string()}};
  outcome.text =
      fmt::format("{}: explained_variance_pooled {:.4f}, l0 {:.2f}, dead_rate_1e-6 {:.4f}\n",
                  trained.files[0].string(), trained.quality.explained_variance_pooled,
                  trained.quality.l0, trained.quality.dead_rate);
  return outcome;
}

// A sweep's folder is known by this file; its members' folders have settings of their own.
constexpr const char* kSweepFile = "sweep.json";

void open_sweep_folder(const Path& folder, const VerbContext& context, const Stack& stack) {
  const bool exists = std::filesystem::exists(folder);
  if (exists && std::filesystem::exists(folder / kSweepFile) && !context.options.overwrite) return;
  require(!exists || std::filesystem::is_directory(folder), "{}: is not a folder", folder.string());
  make_output_folder(folder, context.options.overwrite, {stack.path()});
  write_json_file(folder / kSweepFile, {{"stack", stack.path().filename().string()}});
}

Outcome train_many(const TrainConfig& config, const std::vector<Member>& members,
                   const std::vector<TrainingRun>& runs, const Stack& stack, const Path& folder,
                   at::Device device, const VerbContext& context) {
  std::map<std::pair<std::vector<std::int64_t>, std::string>, TrainingData> resident;
  std::vector<SweepMember> sweep;
  std::string hash;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::string& mode = runs[i].training.input_preprocess;
    auto found = resident.find({members[i].indices, mode});
    if (found == resident.end()) {
      found = resident
                  .emplace(std::pair{members[i].indices, mode},
                           dictionaries::load_training_data(stack, members[i].indices, runs[i],
                                                            hash, {}, device))
                  .first;
      hash = found->second.stack_sha256;
    }
    sweep.push_back(
        {dictionaries::member_name(members[i].values), members[i].values, runs[i], &found->second});
  }
  open_sweep_folder(folder, context, stack);
  const FolderLock lock(folder);
  // On a GPU one after the other: together they gain nothing there.
  const double memory = device.is_cpu() ? static_cast<double>(available_bytes()) : 0;
  const artifacts::Table table =
      train_sweep(sweep, folder, memory, config.fuse, context.progress,
                  [&](const auto& trained) { write_line(config, stack, trained); });
  write_csv(folder / "sweep.csv", table);
  artifacts::Manifest manifest = runs[0].manifest;
  artifacts::write_manifest(folder, manifest);

  Outcome outcome;
  Json rows = Json::array();
  for (std::size_t i = 0; i < table.num_rows(); ++i) {
    const std::vector<std::string>& row = table.row(i);
    Json object;
    for (std::size_t c = 0; c < table.columns().size(); ++c) object[table.columns()[c]] = row[c];
    rows.push_back(std::move(object));
  }
  outcome.summary = {
      {"members", rows}, {"table", (folder / "sweep.csv").string()}, {"folder", folder.string()}};
  outcome.text = artifacts::to_aligned_text(table);
  return outcome;
}

}  // namespace

std::string_view crosscoder_recipe(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, text] : recipes::crosscoders()) {
    if (known == name) return text;
    names.emplace_back(known);
  }
  fail_usage("recipe '{}' is not known{}; there are {}", escape_for_terminal(name),
             did_you_mean(name, names), join(names, ", "));
}

Outcome run_train(const TrainConfig& config, VerbContext& context) {
  const at::Device device = tensor::parse_device(context.options.device);
  const Stack stack(config.stack);
  const std::vector<Member> members =
      members_of(config, snapshots_of(config, stack), stack.steps(), context);
  std::vector<TrainingRun> runs;
  std::vector<TrainingPlan> plans;
  require_shareable(config, members);
  if (config.append_manifest) {
    const Path folder = std::filesystem::absolute(config.manifest_path).parent_path();
    require(std::filesystem::is_directory(folder), "{}: its folder does not exist",
            config.manifest_path);
  }
  for (const Member& member : members) {
    const dictionaries::TrainingShape shape{
        stack.num_rows(), stack.width(),
        static_cast<std::int64_t>(member.indices.size()) / dist::world().size()};
    runs.push_back(
        training_run(member, stack.info().matrix, stack.steps(), stack.width(), context));
    runs.back().manifest.inputs = {stack.path()};
    plans.push_back(plan_training(runs.back(), shape));
    const TrainingRun& run = runs.back();
    dictionaries::check_device(device, run.training,
                               dictionaries::activation_of_kind(run.kind, run.training));
    // A GPU's memory is asked by those who allocate there.
    if (device.is_cpu()) require_memory(run, plans.back(), shape, stack.path().string());
  }
  if (context.options.dry_run) return plan_outcome(plans, runs, stack, members[0].indices.size());
  require_usage(!context.options.out.empty(), "--out is needed: the folder to write");
  watch_for_interrupts();
  const Path folder = context.options.out;
  if (members.size() == 1 && config.sweep.empty())
    return train_one(config, runs[0], plans[0], stack, members[0].indices, folder, device,
                     context.progress);
  return train_many(config, members, runs, stack, folder, device, context);
}

}  // namespace cresco::verbs
