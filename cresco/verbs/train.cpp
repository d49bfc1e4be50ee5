#include "cresco/verbs/train.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/sweep.h"
#include "cresco/dictionaries/whole_step.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/steps.h"
#include "cresco/verbs/recipes.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace cresco::verbs {
namespace {

using dictionaries::SweepMember;
using dictionaries::SweepValues;
using dictionaries::TrainingData;
using dictionaries::TrainingPlan;
using dictionaries::TrainingRun;
using trajectories::Stack;

// One dictionary that is to be trained, and the snapshots it is of.
struct Member {
  SweepValues values;
  TrainConfig config;
  std::uint64_t seed;
  std::vector<std::int64_t> indices;
};

TrainingRun training_run(const Member& member, const Stack& stack, const VerbContext& context) {
  TrainConfig config = member.config;
  config.training = dictionaries::resolved(config.training, stack.width());
  TrainingRun run{.training = config.training,
                  .name = config.name,
                  .kind = config.kind,
                  .random = config.random,
                  .seed = member.seed,
                  .resume = config.resume,
                  .max_steps = config.max_steps,
                  .log_every = config.log_every,
                  .state_every = config.state_every,
                  .overwrite = context.options.overwrite,
                  .resume_command = context.resume_command(),
                  .manifest = manifest_of("train", config, context),
                  .stop_requested = interrupted};
  if (run.name.empty()) {
    run.name = fmt::format("{}_d{}_seed{}", stack.info().matrix, run.training.d_sae, run.seed);
    if (dictionaries::trains_single_snapshots(config.kind))
      run.name +=
          fmt::format("_step{}", stack.steps()[static_cast<std::size_t>(member.indices.front())]);
  }
  run.manifest.inputs = {stack.path()};
  return run;
}

// Which snapshots: all together for a crosscoder, each by itself for single-snapshot dictionaries.
std::vector<std::vector<std::int64_t>> snapshots_of(const TrainConfig& config, const Stack& stack) {
  const auto steps = trajectories::choose_steps(config.steps, stack.steps(), config.stack);
  std::vector<std::int64_t> indices = stack.indices(steps);
  if (config.smoke && indices.size() > 2) indices = {indices.front(), indices.back()};
  if (!dictionaries::trains_single_snapshots(config.kind)) return {indices};
  std::vector<std::vector<std::int64_t>> each;
  for (const std::int64_t i : indices) each.push_back({i});
  return each;
}

void assign(Member& member, const std::string& key, const std::string& value) {
  if (key == "seed") {
    const std::int64_t seed = as_usage([&] { return parse_int(value, "--sweep seed"); });
    require_usage(seed >= 0, "--sweep seed={}: expected 0 or more", value);
    member.seed = static_cast<std::uint64_t>(seed);
  } else {
    set_field([&](FieldVisitor& v) { member.config.training.fields(v); }, key + "=" + value);
  }
}

std::vector<Member> members_of(const TrainConfig& config, const Stack& stack,
                               const VerbContext& context) {
  const auto snapshots = snapshots_of(config, stack);
  std::vector<Member> members;
  for (const SweepValues& values : combinations(dictionaries::parse_sweep(config.sweep)))
    for (const auto& indices : snapshots) {
      Member member{values, config, context.seed(), indices};
      for (const auto& [key, value] : values) assign(member, key, value);
      if (config.smoke) member.config.training.n_epochs = 1;
      if (snapshots.size() > 1)
        member.values.emplace_back(
            "step", std::to_string(stack.steps()[static_cast<std::size_t>(indices[0])]));
      members.push_back(std::move(member));
    }
  return members;
}

// The largest dictionary whose training fits, or 0.
std::int64_t largest_that_fits(TrainingRun run, const Stack& stack, std::int64_t heads,
                               double available) {
  std::int64_t fits = 0;
  for (std::int64_t d_sae = run.training.d_sae / 2; d_sae >= 64; d_sae /= 2) {
    run.training.d_sae = d_sae;
    run.training.k = std::min(run.training.k, d_sae);
    if (plan_training(run, stack, heads).memory_bytes <= available) {
      fits = d_sae;
      break;
    }
  }
  return fits;
}

// What cannot fit is refused before anything is read or written.
void require_memory(const TrainingRun& run, const TrainingPlan& plan, const Stack& stack,
                    std::int64_t heads) {
  const auto available = static_cast<double>(available_bytes());
  if (plan.memory_bytes <= available) return;
  const std::int64_t fits = largest_that_fits(run, stack, heads, available);
  fail("{}: training {} features over {} snapshots takes about {}, {} are there: {}",
       stack.path().string(), run.training.d_sae, heads, human_bytes(plan.memory_bytes),
       human_bytes(available),
       fits > 0 ? fmt::format("d_sae {} would fit, as would fewer --steps", fits)
                : "fewer --steps or a smaller batch_size may fit");
}

Outcome plan_outcome(const std::vector<TrainingPlan>& plans, const std::vector<TrainingRun>& runs,
                     const Stack& stack, std::size_t heads) {
  double flops = 0, memory = 0, resident = 0;
  std::int64_t steps = 0;
  for (const TrainingPlan& plan : plans) {
    flops += plan.flops;
    steps += plan.last_step;
    memory += plan.memory_bytes - plan.resident_bytes;
    resident = plan.resident_bytes;
  }
  memory += resident;
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

Outcome train_one(const TrainingRun& run, const TrainingPlan& plan, const Stack& stack,
                  const std::vector<std::int64_t>& indices, const Path& folder, at::Device device,
                  Progress& progress) {
  const TrainingData data =
      dictionaries::load_training_data(stack, indices, run.training.input_preprocess, "", device);
  const auto trained = dictionaries::train_crosscoder(run, data, folder, progress);
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

Outcome train_many(const std::vector<Member>& members, const std::vector<TrainingRun>& runs,
                   const Stack& stack, const Path& folder, at::Device device,
                   const VerbContext& context) {
  std::map<std::pair<std::vector<std::int64_t>, std::string>, TrainingData> resident;
  std::vector<SweepMember> sweep;
  double resident_bytes = 0;
  std::string hash;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::string& mode = runs[i].training.input_preprocess;
    auto found = resident.find({members[i].indices, mode});
    if (found == resident.end()) {
      found = resident
                  .emplace(std::pair{members[i].indices, mode},
                           dictionaries::load_training_data(stack, members[i].indices, mode, hash,
                                                            device))
                  .first;
      hash = found->second.stack_sha256;
      resident_bytes += static_cast<double>(found->second.x_VKD.nbytes());
    }
    sweep.push_back(
        {dictionaries::member_name(members[i].values), members[i].values, runs[i], &found->second});
  }
  open_sweep_folder(folder, context, stack);
  const FolderLock lock(folder);
  // On a GPU one after the other: together they gain nothing there.
  const double memory = device.is_cpu() ? static_cast<double>(available_bytes()) : 0;
  const artifacts::Table table = train_sweep(sweep, folder, memory, context.progress);
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
    outcome.text += fmt::format("{}\n", fmt::join(row, "  "));
  }
  outcome.summary = {
      {"members", rows}, {"table", (folder / "sweep.csv").string()}, {"folder", folder.string()}};
  outcome.text = fmt::format("{}\n", fmt::join(table.columns(), "  ")) + outcome.text;
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
  const std::vector<Member> members = members_of(config, stack, context);
  std::vector<TrainingRun> runs;
  std::vector<TrainingPlan> plans;
  for (const Member& member : members) {
    const auto heads = static_cast<std::int64_t>(member.indices.size());
    runs.push_back(training_run(member, stack, context));
    plans.push_back(plan_training(runs.back(), stack, heads));
    const TrainingRun& run = runs.back();
    dictionaries::check_device(device, run.training,
                               dictionaries::activation_of_kind(run.kind, run.training));
    // A GPU's memory is asked by those who allocate there.
    if (device.is_cpu()) require_memory(run, plans.back(), stack, heads);
  }
  if (context.options.dry_run) return plan_outcome(plans, runs, stack, members[0].indices.size());
  require_usage(!context.options.out.empty(), "--out is needed: the folder to write");
  watch_for_interrupts();
  const Path folder = context.options.out;
  if (members.size() == 1 && config.sweep.empty())
    return train_one(runs[0], plans[0], stack, members[0].indices, folder, device,
                     context.progress);
  return train_many(members, runs, stack, folder, device, context);
}

}  // namespace cresco::verbs
