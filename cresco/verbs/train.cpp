#include "cresco/verbs/train.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/training.h"
#include "cresco/tensor/bridge.h"

#include <ATen/core/Tensor.h>

namespace cresco::verbs {
namespace {

dictionaries::TrainingRun training_run(const TrainConfig& config, const trajectories::Stack& stack,
                                       const VerbContext& context) {
  require_usage(config.kind == "crosscoder", "kind '{}' is not known; it is crosscoder",
                config.kind);
  dictionaries::TrainingRun run{.training = dictionaries::resolved(config.training, stack.width()),
                                .name = config.name,
                                .random = config.random,
                                .seed = context.seed(),
                                .resume = config.resume,
                                .max_steps = config.max_steps,
                                .log_every = config.log_every,
                                .state_every = config.state_every,
                                .overwrite = context.options.overwrite,
                                .resume_command = context.resume_command(),
                                .manifest = manifest_of("train", config, context),
                                .stop_requested = interrupted};
  if (run.name.empty())
    run.name = fmt::format("{}_d{}_seed{}", stack.info().matrix, run.training.d_sae, run.seed);
  run.manifest.inputs = {stack.path()};
  return run;
}

Outcome plan_outcome(const dictionaries::TrainingPlan& plan, const dictionaries::TrainingRun& run,
                     const trajectories::Stack& stack) {
  Outcome outcome;
  outcome.summary = {{"name", run.name},
                     {"steps", plan.last_step},
                     {"schedule_steps", plan.num_steps},
                     {"flops", plan.flops},
                     {"memory_bytes", plan.memory_bytes}};
  outcome.text = fmt::format(
      "{}: {} features over {} snapshots of {} ({} x {})\n{} steps of {}, {:.3g} FLOPs, about {} "
      "of memory\n",
      run.name, run.training.d_sae, stack.num_snapshots(), stack.info().matrix, stack.num_rows(),
      stack.width(), plan.last_step, plan.num_steps, plan.flops, human_bytes(plan.memory_bytes));
  return outcome;
}

}  // namespace

Outcome run_train(const TrainConfig& config, VerbContext& context) {
  require_cpu(context, "train");
  const trajectories::Stack stack(config.stack);
  const dictionaries::TrainingRun run = training_run(config, stack, context);
  const dictionaries::TrainingPlan plan = dictionaries::plan_training(run, stack);
  if (context.options.dry_run) return plan_outcome(plan, run, stack);
  require_usage(!context.options.out.empty(), "--out is needed: the folder to write");

  watch_for_interrupts();
  const Path folder = context.options.out;
  const auto trained = dictionaries::train_crosscoder(
      run, stack, folder, tensor::parse_device(context.options.device), context.progress);
  Outcome outcome;
  Json files = Json::array();
  for (const Path& file : trained.files) files.push_back(file.string());
  outcome.summary = {{"name", run.name},
                     {"files", files},
                     {"metrics", dictionaries::quality_json(trained.quality, stack.steps())},
                     {"step", plan.last_step},
                     {"folder", folder.string()}};
  outcome.text =
      fmt::format("{}: explained_variance_pooled {:.4f}, l0 {:.2f}, dead_rate_1e-6 {:.4f}\n",
                  trained.files[0].string(), trained.quality.explained_variance_pooled,
                  trained.quality.l0, trained.quality.dead_rate);
  return outcome;
}

}  // namespace cresco::verbs
