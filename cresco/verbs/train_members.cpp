#include "cresco/verbs/train_members.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/kind_settings.h"
#include "cresco/dictionaries/schedules.h"
#include "cresco/dictionaries/whole_step.h"
#include "cresco/dist/ranks.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace cresco::verbs {

using dictionaries::SweepValues;
using dictionaries::TrainingPlan;
using dictionaries::TrainingRun;
using dictionaries::TrainingShape;
using trajectories::Stack;

namespace {

TrainingRun training_run(const Member& member, const MemberSource& source,
                         const VerbContext& context) {
  TrainConfig config = member.config;
  config.training = dictionaries::resolved(config.training, source.width);
  require_usage(config.state_every_epochs >= 0, "state_every_epochs is {}, expected 0 or more",
                config.state_every_epochs);
  if (config.state_every_epochs > 0)
    config.state_every = config.state_every_epochs *
                         dictionaries::steps_per_epoch(source.rows, config.training.batch_size);
  TrainingRun run{.training = config.training,
                  .name = config.name,
                  .kind = config.kind,
                  .random = config.random,
                  .seed = member.seed,
                  .resume = config.resume,
                  .max_steps = config.max_steps,
                  .log_every = config.log_every,
                  .state_every = config.state_every,
                  .stack_dtype = config.stack_dtype,
                  .overwrite = context.options.overwrite,
                  .resume_command = context.resume_command(),
                  .manifest = manifest_of("train", config, context),
                  .stop_requested = interrupted};
  if (run.name.empty()) {
    run.name = fmt::format("{}_d{}_seed{}", source.matrix, run.training.d_sae, run.seed);
    if (dictionaries::trains_single_snapshots(config.kind))
      run.name +=
          fmt::format("_step{}", source.steps[static_cast<std::size_t>(member.indices.front())]);
  }
  return run;
}

void assign(Member& member, const std::string& key, const std::string& value) {
  if (key == "seed") {
    const std::int64_t seed = as_usage([&] { return parse_int(value, "--sweep seed"); });
    require_usage(seed >= 0, "--sweep seed={}: expected 0 or more", value);
    member.seed = static_cast<std::uint64_t>(seed);
  } else {
    set_field([&](FieldVisitor& v) { member.config.training.fields(v); }, key + "=" + value,
              "--sweep");
  }
}

// The axes under the names of their fields.
std::vector<dictionaries::SweepAxis> axes_of(const TrainConfig& config) {
  auto axes = dictionaries::parse_sweep(config.sweep);
  TrainConfig copy = config;
  for (const FieldAlias& alias : aliases_of([&](FieldVisitor& v) { copy.training.fields(v); }))
    for (dictionaries::SweepAxis& axis : axes)
      if (axis.key == alias.other && alias.value.empty()) axis.key = alias.path;
  return axes;
}

}  // namespace

std::vector<std::vector<std::int64_t>> grouped(const TrainConfig& config,
                                               std::vector<std::int64_t> indices) {
  if (config.smoke && indices.size() > 2) indices = {indices.front(), indices.back()};
  if (!dictionaries::trains_single_snapshots(config.kind)) return {indices};
  std::vector<std::vector<std::int64_t>> each;
  for (const std::int64_t i : indices) each.push_back({i});
  return each;
}

std::vector<std::vector<std::int64_t>> snapshots_of(const TrainConfig& config, const Stack& stack) {
  return grouped(
      config, stack.indices(trajectories::choose_steps(config.steps, stack.steps(), config.stack)));
}

void keep_given_size(const std::set<std::string>& given, std::int64_t& d_sae,
                     double& expansion_factor) {
  const bool size = given.contains("d_sae"), factor = given.contains("expansion_factor");
  if (factor && !size && expansion_factor > 0) d_sae = 0;
  if (size && !factor && d_sae > 0) expansion_factor = 0;
}

std::vector<Member> members_of(const TrainConfig& config,
                               const std::vector<std::vector<std::int64_t>>& snapshots,
                               const MemberSource& source, const VerbContext& context) {
  const auto axes = axes_of(config);
  std::set<std::string> given = context.given;
  for (const dictionaries::SweepAxis& axis : axes) given.insert(axis.key);
  dictionaries::activation_of_kind(config.kind, {.d_sae = 0});  // is there such a kind
  require_used(dictionaries::settings_of_kinds(), "kind", config.kind, given);
  require_usage(!config.smoke || !given.contains("n_epochs"),
                "--smoke takes one epoch, n_epochs has no say: give one of them");
  std::vector<Member> members;
  for (const SweepValues& values : combinations(axes))
    for (const auto& indices : snapshots) {
      Member member{
          .values = values,
          .config = config,
          .seed = context.seed(),
          .indices = indices,
          .shape = {source.rows, source.width,
                    static_cast<std::int64_t>(indices.size()) / source.ranks, source.ranks}};
      for (const auto& [key, value] : values) assign(member, key, value);
      auto& training = member.config.training;
      keep_given_size(given, training.d_sae, training.expansion_factor);
      if (config.smoke) training.n_epochs = 1;
      if (snapshots.size() > 1)
        member.values.emplace_back(
            "step", std::to_string(source.steps[static_cast<std::size_t>(indices[0])]));
      member.run = training_run(member, source, context);
      dictionaries::check_device(
          source.device, member.run.training,
          dictionaries::activation_of_kind(member.run.kind, member.run.training));
      member.plan = plan_training(member.run, member.shape, source.device);
      members.push_back(std::move(member));
    }
  return members;
}

MemoryNeed memory_of(const std::vector<Member>& members) {
  MemoryNeed need;
  std::map<std::tuple<std::vector<std::int64_t>, std::string, std::string>, double> rows;
  double largest = 0, own = 0, largest_gpu = 0;
  for (const Member& member : members) {
    const TrainingPlan& plan = member.plan;
    rows[{member.indices, member.run.training.input_preprocess, member.run.stack_dtype}] =
        plan.resident_bytes;
    need.once = std::max(need.once, plan.shared_bytes - plan.resident_bytes);
    need.parameter += plan.parameter_bytes;
    largest = std::max(largest, plan.memory_bytes - plan.shared_bytes);
    own += plan.memory_bytes - plan.shared_bytes;
    if (plan.gpu_bytes > 0)
      largest_gpu = std::max(largest_gpu, plan.gpu_bytes - plan.resident_bytes);
  }
  for (const auto& [key, bytes] : rows) {
    need.resident += bytes;
    need.rows_here = largest_gpu > 0 ? std::max(need.rows_here, bytes) : need.resident;
  }
  need.one = need.rows_here + need.once + largest;
  need.all = need.rows_here + need.once + own;
  if (largest_gpu > 0) {
    need.gpu = need.resident + largest_gpu;
    need.all = need.one;
    need.parameter = 0;
  }
  return need;
}

const Member& largest_of(const std::vector<Member>& members) {
  const auto bytes = [](const Member& member) {
    return std::pair{member.plan.gpu_bytes, member.plan.memory_bytes};
  };
  return *std::max_element(members.begin(), members.end(),
                           [&](const Member& a, const Member& b) { return bytes(a) < bytes(b); });
}

namespace {

// The largest dictionary with which one of a plan's figures fits into so much beside the rows of
// all, or 0.
std::int64_t largest_that_fits(TrainingRun run, const TrainingShape& shape, at::DeviceType device,
                               double TrainingPlan::*bytes, double available) {
  run.training.target_l0 = run.training.expansion_factor = 0;
  for (std::int64_t d_sae = run.training.d_sae / 2; d_sae >= 64; d_sae /= 2) {
    run.training.d_sae = d_sae;
    run.training.k = std::min(run.training.k, d_sae);
    const TrainingPlan plan = plan_training(run, shape, device);
    if (plan.*bytes - plan.resident_bytes <= available) return d_sae;
  }
  return 0;
}

std::string what_fits(const Member& member, at::DeviceType device, double TrainingPlan::*bytes,
                      double available) {
  const std::int64_t d_sae = largest_that_fits(member.run, member.shape, device, bytes, available);
  return d_sae > 0 ? fmt::format("d_sae {} would fit, as would fewer --steps", d_sae)
                   : "fewer --steps or a smaller batch_size may fit";
}

std::string size_text(const Member& member) {
  return fmt::format("{} features over {} snapshots", member.run.training.d_sae,
                     member.shape.heads * member.shape.ranks);
}

}  // namespace

void require_memory(const std::vector<Member>& members, const std::string& what, at::Device device,
                    const std::string& more) {
  const MemoryNeed need = memory_of(members);
  const Member& largest = largest_of(members);
  if (!device.is_cpu()) {
    const double free = tensor::free_bytes(device);
    require(need.gpu <= free, "{}: training {} takes about {} of {}, {} are free there: {}{}", what,
            size_text(largest), human_bytes(need.gpu), device.str(), human_bytes(free),
            what_fits(largest, device.type(), &TrainingPlan::gpu_bytes, free - need.resident),
            more);
  }
  const auto available = static_cast<double>(available_bytes());
  // The ranks of a host share its memory; the first of all also gathers the dictionary.
  const dist::Host host = largest.shape.ranks > 1 ? dist::world().host() : dist::Host{};
  const double gathered = host.has_first ? largest.plan.gathered_bytes : 0;
  const double takes = (need.one - largest.plan.gathered_bytes) * host.ranks + gathered;
  if (takes <= available) return;
  fail("{}: training {} takes about {}{} of this machine's memory, {} are there: {}{}", what,
       size_text(largest), human_bytes(takes),
       need.resident > largest.plan.resident_bytes
           ? fmt::format(", {} of it the rows of all {} trainings", human_bytes(need.resident),
                         members.size())
       : host.ranks > 1 ? fmt::format(" for the {} ranks on this machine", host.ranks)
                        : "",
       human_bytes(available),
       what_fits(largest, device.type(), &TrainingPlan::memory_bytes,
                 available / host.ranks - need.rows_here),
       more);
}

}  // namespace cresco::verbs
