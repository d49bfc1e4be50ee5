#include "cresco/verbs/train_members.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>

namespace cresco::verbs {

using dictionaries::SweepValues;
using dictionaries::TrainingPlan;
using dictionaries::TrainingRun;
using dictionaries::TrainingShape;
using trajectories::Stack;

TrainingRun training_run(const Member& member, const std::string& matrix,
                         const std::vector<std::int64_t>& steps, std::int64_t width,
                         const VerbContext& context) {
  TrainConfig config = member.config;
  config.training = dictionaries::resolved(config.training, width);
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
    run.name = fmt::format("{}_d{}_seed{}", matrix, run.training.d_sae, run.seed);
    if (dictionaries::trains_single_snapshots(config.kind))
      run.name += fmt::format("_step{}", steps[static_cast<std::size_t>(member.indices.front())]);
  }
  return run;
}

std::vector<std::vector<std::int64_t>> grouped(const TrainConfig& config,
                                               const std::vector<std::int64_t>& indices) {
  if (!dictionaries::trains_single_snapshots(config.kind)) return {indices};
  std::vector<std::vector<std::int64_t>> each;
  for (const std::int64_t i : indices) each.push_back({i});
  return each;
}

std::vector<std::vector<std::int64_t>> snapshots_of(const TrainConfig& config, const Stack& stack) {
  const auto steps = trajectories::choose_steps(config.steps, stack.steps(), config.stack);
  std::vector<std::int64_t> indices = stack.indices(steps);
  if (config.smoke && indices.size() > 2) indices = {indices.front(), indices.back()};
  return grouped(config, indices);
}

namespace {

void assign(Member& member, const std::string& key, const std::string& value) {
  if (key == "seed") {
    const std::int64_t seed = as_usage([&] { return parse_int(value, "--sweep seed"); });
    require_usage(seed >= 0, "--sweep seed={}: expected 0 or more", value);
    member.seed = static_cast<std::uint64_t>(seed);
  } else {
    set_field([&](FieldVisitor& v) { member.config.training.fields(v); }, key + "=" + value);
  }
}

}  // namespace

std::vector<Member> members_of(const TrainConfig& config,
                               const std::vector<std::vector<std::int64_t>>& snapshots,
                               const std::vector<std::int64_t>& steps, const VerbContext& context) {
  std::vector<Member> members;
  for (const SweepValues& values : combinations(dictionaries::parse_sweep(config.sweep)))
    for (const auto& indices : snapshots) {
      Member member{values, config, context.seed(), indices};
      for (const auto& [key, value] : values) assign(member, key, value);
      if (config.smoke) member.config.training.n_epochs = 1;
      if (snapshots.size() > 1)
        member.values.emplace_back("step",
                                   std::to_string(steps[static_cast<std::size_t>(indices[0])]));
      members.push_back(std::move(member));
    }
  return members;
}

namespace {

// The largest dictionary whose training fits, or 0.
std::int64_t largest_that_fits(TrainingRun run, const TrainingShape& shape, double available) {
  for (std::int64_t d_sae = run.training.d_sae / 2; d_sae >= 64; d_sae /= 2) {
    run.training.d_sae = d_sae;
    run.training.k = std::min(run.training.k, d_sae);
    if (plan_training(run, shape).memory_bytes <= available) return d_sae;
  }
  return 0;
}

}  // namespace

void require_memory(const TrainingRun& run, const TrainingPlan& plan, const TrainingShape& shape,
                    const std::string& what, const std::string& more) {
  const auto available = static_cast<double>(available_bytes());
  if (plan.memory_bytes <= available) return;
  const std::int64_t fits = largest_that_fits(run, shape, available);
  fail("{}: training {} features over {} snapshots takes about {}, {} are there: {}{}", what,
       run.training.d_sae, shape.heads, human_bytes(plan.memory_bytes), human_bytes(available),
       fits > 0 ? fmt::format("d_sae {} would fit, as would fewer --steps", fits)
                : "fewer --steps or a smaller batch_size may fit",
       more);
}

}  // namespace cresco::verbs
