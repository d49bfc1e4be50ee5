#include "cresco/verbs/train_baseline.h"

#include "cresco/artifacts/table_text.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/dist/ranks.h"
#include "cresco/trajectories/steps.h"
#include "cresco/verbs/eval_linear.h"
#include "cresco/verbs/interruptible.h"

#include <algorithm>

namespace cresco::verbs {
namespace {

void require_no_training(const TrainConfig& config) {
  TrainConfig defaults;
  defaults.stack = config.stack;
  defaults.kind = config.kind;
  defaults.steps = config.steps;
  const auto set = field_differences(defaults, config);
  require_usage(set.empty(), "{} is a setting of trainings: kind {} is computed at once",
                set.empty() ? "" : set.front().path, config.kind);
}

}  // namespace

const std::vector<std::string>& baseline_kinds() {
  static const std::vector<std::string> kinds{"pca", "concatenated_pca", "endpoint_line", "mean"};
  return kinds;
}

bool is_baseline(const std::string& kind) {
  return std::find(baseline_kinds().begin(), baseline_kinds().end(), kind) !=
         baseline_kinds().end();
}

Outcome run_baseline(const TrainConfig& config, VerbContext& context) {
  require_no_training(config);
  require_usage(dist::world().size() == 1, "kind {} is computed by one process, here are {}",
                config.kind, dist::world().size());
  require_cpu(context, ("train --kind " + config.kind).c_str());
  const trajectories::Stack stack(config.stack);
  const auto indices =
      stack.indices(trajectories::choose_steps(config.steps, stack.steps(), config.stack));
  const auto num_heads = static_cast<std::int64_t>(indices.size());
  Outcome outcome{.summary = {{"kind", config.kind}}};
  if (context.options.dry_run) {
    outcome.summary["flops"] = baselines_flops(stack.num_rows(), num_heads, stack.width());
    outcome.summary["memory_bytes"] =
        baselines_bytes(stack.num_rows()) + static_cast<double>(dictionaries::kBlockBytes);
    outcome.text = fmt::format("would compute {} of {} snapshots\n", config.kind, num_heads);
    return outcome;
  }
  OutputFolder output(context.options.out, context.options.overwrite, {stack.path()});
  watch_for_interrupts();
  context.progress.begin("statistics", num_heads * stack.num_rows(), "row");
  const dictionaries::StackRows rows(stack, indices, "center", dictionaries::kBlockBytes,
                                     [&](std::int64_t done) {
                                       stop_when_interrupted(context.progress);
                                       context.progress.update(done, "");
                                     });
  context.progress.end();
  std::optional<ExactPca> pca;
  if (config.kind == "concatenated_pca")
    pca = exact_pca(rows, /*scaled=*/false, /*l0=*/1, context.progress);
  const artifacts::Table table =
      baselines_table(rows, pca, /*scaled=*/false, context.seed(), context.progress, {config.kind});
  write_csv(output.folder() / "linear_baselines.csv", table);
  artifacts::Manifest manifest = manifest_of("train", config, context);
  manifest.inputs = {stack.path()};
  artifacts::write_manifest(output.folder(), manifest);
  output.commit();
  outcome.summary["baselines"] = baselines_json(table);
  outcome.summary["folder"] = context.options.out;
  outcome.text = artifacts::to_aligned_text(what_they_explain(table));
  return outcome;
}

}  // namespace cresco::verbs
