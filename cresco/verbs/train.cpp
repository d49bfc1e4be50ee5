#include "cresco/verbs/train.h"

#include "cresco/artifacts/table.h"
#include "cresco/artifacts/table_text.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/sweep.h"
#include "cresco/dist/ranks.h"
#include "cresco/tensor/bridge.h"
#include "cresco/verbs/recipes.h"
#include "cresco/verbs/train_baseline.h"
#include "cresco/verbs/train_manifest.h"
#include "cresco/verbs/train_members.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <numeric>

namespace cresco::verbs {
namespace {

using dictionaries::SweepMember;
using dictionaries::TrainingData;
using dictionaries::TrainingRun;
using trajectories::Stack;

// Ranks share the heads of one dictionary.
void require_shareable(const TrainConfig& config,
                       const std::vector<std::vector<std::int64_t>>& snapshots) {
  const int ranks = dist::world().size();
  if (ranks == 1) return;
  require_usage(snapshots.size() == 1 && config.sweep.empty(),
                "{} ranks share the heads of one dictionary, here are several: start one rank",
                ranks);
  require_usage(config.kind != "gated" && config.kind != "jumprelu",
                "kind {} is trained by one rank, here are {}", config.kind, ranks);
  const std::size_t heads = snapshots[0].size();
  require_usage(heads % static_cast<std::size_t>(ranks) == 0,
                "{} snapshots cannot be shared by {} ranks: the number of ranks has to divide it",
                heads, ranks);
}

Outcome plan_outcome(const std::vector<Member>& members, const Stack& stack) {
  double flops = 0;
  std::int64_t steps = 0, schedule_steps = 0;
  for (const Member& member : members) {
    flops += member.plan.flops;
    steps += member.plan.last_step;
    schedule_steps += member.plan.num_steps;
  }
  const MemoryNeed need = memory_of(members);
  const TrainingRun& first = members[0].run;
  Outcome outcome;
  outcome.summary = {{"name", first.name}, {"trainings", members.size()},
                     {"steps", steps},     {"schedule_steps", schedule_steps},
                     {"flops", flops},     {"memory_bytes", need.all}};
  if (need.gpu > 0) outcome.summary["gpu_bytes"] = need.gpu;
  outcome.text = fmt::format(
      "{}: {} features over {} snapshots of {} ({} x {})\n{}{} steps of {}, {:.3g} FLOPs as dense "
      "products, about {} of memory{}\n",
      first.name, first.training.d_sae, members[0].indices.size(), stack.info().matrix,
      stack.num_rows(), stack.width(),
      members.size() > 1 ? fmt::format("{} trainings, ", members.size()) : "", steps,
      schedule_steps, flops, human_bytes(need.all),
      need.gpu > 0 ? " and " + human_bytes(need.gpu) + " of the GPU's" : "");
  return outcome;
}

// --fuse where no two of the trainings could ever take a batch together.
void require_fusable(const std::vector<Member>& members, at::Device device) {
  require_usage(device.is_cpu(), "--fuse: on a GPU trainings are taken one after the other");
  for (std::size_t i = 0; i < members.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (members[i].indices == members[j].indices &&
          members[i].run.training.input_preprocess == members[j].run.training.input_preprocess &&
          dictionaries::can_fuse(members[i].run, members[j].run))
        return;
  fail_usage(
      "--fuse: no two of {} trainings can share a product: it takes a --sweep with several of one "
      "seed, snapshots, batch_size, noise_std and input_preprocess, in fp32, of another kind than "
      "gated and jumprelu",
      members.size());
}

void write_line(const TrainConfig& config, const Stack& stack,
                const dictionaries::TrainingOutcome& trained) {
  if (config.append_manifest)
    append_to_manifest(config.manifest_path, trained, config.kind, stack, config.manifest_notes);
}

Outcome train_one(const TrainConfig& config, const Member& member, const Stack& stack,
                  const Path& folder, at::Device device, Progress& progress) {
  const TrainingRun& run = member.run;
  const TrainingData data =
      dictionaries::load_training_data(stack, member.indices, run, "", {&dist::world()}, device);
  const auto trained = dictionaries::train_crosscoder(run, data, folder, progress);
  if (!dist::world().first()) return {};
  write_line(config, stack, trained);
  Outcome outcome;
  Json files = Json::array();
  for (const Path& file : trained.files) files.push_back(file.string());
  outcome.summary = {{"name", run.name},
                     {"files", files},
                     {"metrics", dictionaries::quality_json(trained.quality, data.steps)},
                     {"step", member.plan.last_step},
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
  if (std::filesystem::exists(folder / kSweepFile) && !context.options.overwrite) return;
  make_output_folder(folder, context.options.overwrite, {stack.path()});
  write_json_file(folder / kSweepFile, {{"stack", stack.path().filename().string()}});
}

Outcome train_many(const TrainConfig& config, const std::vector<Member>& members,
                   const Stack& stack, const Path& folder, at::Device device,
                   const VerbContext& context) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const FolderLock lock(folder);
  std::map<std::pair<std::vector<std::int64_t>, std::string>, TrainingData> resident;
  std::vector<SweepMember> sweep;
  std::string hash;
  for (const Member& member : members) {
    const std::pair key{member.indices, member.run.training.input_preprocess};
    auto found = resident.find(key);
    if (found == resident.end()) {
      found = resident
                  .emplace(key, dictionaries::load_training_data(stack, member.indices, member.run,
                                                                 hash, {}, device))
                  .first;
      hash = found->second.stack_sha256;
    }
    sweep.push_back(
        {dictionaries::member_name(member.values), member.values, member.run, &found->second});
  }
  open_sweep_folder(folder, context, stack);
  // On a GPU one after the other: together they gain nothing there.
  const double memory = device.is_cpu() ? static_cast<double>(available_bytes()) : 0;
  std::function<void(const dictionaries::TrainingOutcome&)> finished;
  if (config.append_manifest)
    finished = [&](const auto& trained) { write_line(config, stack, trained); };
  const artifacts::Table table =
      train_sweep(sweep, folder, memory, config.fuse, context.progress, finished);
  write_csv(folder / "sweep.csv", table);
  artifacts::write_manifest(folder, members[0].run.manifest);

  Outcome outcome;
  outcome.summary = {{"members", rows_json(table)},
                     {"table", (folder / "sweep.csv").string()},
                     {"folder", folder.string()}};
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
  if (is_baseline(config.kind)) return run_baseline(config, context);
  const at::Device device = tensor::parse_device(context.options.device);
  const Stack stack(config.stack);
  const auto snapshots = snapshots_of(config, stack);
  require_shareable(config, snapshots);
  std::vector<Member> members = members_of(config, snapshots,
                                           {stack.info().matrix, stack.steps(), stack.num_rows(),
                                            stack.width(), dist::world().size(), device.type()},
                                           context);
  if (config.append_manifest) {
    const Path folder = std::filesystem::absolute(config.manifest_path).parent_path();
    require(std::filesystem::is_directory(folder), "{}: its folder does not exist",
            config.manifest_path);
  }
  if (config.fuse) require_fusable(members, device);
  for (Member& member : members) member.run.manifest.inputs = {stack.path()};
  require_memory(members, stack.path().string(), device);
  dist::world().wait_for_all();  // none begins while another still asks
  if (context.options.dry_run) return plan_outcome(members, stack);
  require_usage(!context.options.out.empty(), "--out is needed: the folder to write");
  watch_for_interrupts();
  const Path folder = context.options.out;
  if (members.size() == 1 && config.sweep.empty())
    return train_one(config, members[0], stack, folder, device, context.progress);
  return train_many(config, members, stack, folder, device, context);
}

}  // namespace cresco::verbs
