#include "cresco/verbs/extract.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/formats/dtype.h"
#include "cresco/verbs/lint_warning.h"

#include <algorithm>

namespace cresco::verbs {
namespace {

using trajectories::Extracted;
using trajectories::ExtractedMatrix;

std::string as_text(const Extracted& made, const char* verb) {
  std::string text;
  for (const ExtractedMatrix& matrix : made.matrices)
    text += fmt::format("{}{}: {} of shape {} at {} steps: {}\n", verb, matrix.out.string(),
                        escape_for_terminal(matrix.matrix), formats::shape_text(matrix.shape),
                        made.steps.size(), list_steps(made.steps));
  return text;
}

// A stack that stands there already is in the way, unless it is to be replaced.
void make_outputs(const trajectories::Trajectory& trajectory, const Extracted& plan,
                  const CommonOptions& options) {
  std::vector<Path> inputs;
  if (options.overwrite)
    for (const std::int64_t step : plan.steps)
      for (const Path& file : trajectory.open(step).files()) inputs.push_back(file);
  for (const ExtractedMatrix& matrix : plan.matrices) {
    make_output_file(matrix.out, options.overwrite, inputs);
    if (!options.overwrite) continue;
    for (const char* suffix : {".part", ".part.json"})
      std::filesystem::remove(matrix.out.string() + suffix);
  }
}

}  // namespace

Outcome run_extract(const ExtractVerbConfig& config, VerbContext& context) {
  const trajectories::Trajectory trajectory(config.trajectory);
  const Path out = context.options.out;
  require_usage(!out.empty() || context.options.dry_run,
                "--out is needed: the stack to write, or the folder of a pattern's stacks");
  const Extracted plan = trajectories::plan_extract(trajectory, config.extract, out);
  if (context.options.dry_run)
    return {.text = fmt::format("a trajectory of layout {}\n{}", trajectory.layout(),
                                as_text(plan, "would write "))};
  make_outputs(trajectory, plan, context.options);
  // Before the work: another tokenizer in that folder is in the way.
  if (trajectory.tokenizer())
    corpora::put_tokenizer(*trajectory.tokenizer(),
                           plan.matrices[0].out.parent_path() / "tokenizer.json");
  for (const std::string& note : trajectory.notes()) context.progress.note(note);
  warn_of_findings(trajectory, plan.steps, context);
  watch_for_interrupts();
  const Extracted made = trajectories::extract(trajectory, config.extract, out, context.progress,
                                               context.resume_command());
  for (const ExtractedMatrix& matrix : made.matrices) {
    artifacts::Manifest manifest = manifest_of("extract", config, context);
    manifest.facts = {{"layout", trajectory.layout()},
                      {"source_sha256", matrix.sha256}};  // of the matrix at each step
    artifacts::write_manifest(matrix.out, manifest);
  }
  const ExtractedMatrix& first = made.matrices[0];
  Outcome outcome{.summary = {{"matrix", config.extract.matrix},
                              {"steps", made.steps},
                              {"shape", first.shape},
                              {"out", out.string()}},
                  .text = as_text(made, "")};
  if (made.matrices.size() > 1 || first.out != out) {
    Json& list = outcome.summary["matrices"] = Json::array();
    for (const ExtractedMatrix& matrix : made.matrices)
      list.push_back(
          {{"matrix", matrix.matrix}, {"shape", matrix.shape}, {"out", matrix.out.string()}});
  }
  return outcome;
}

}  // namespace cresco::verbs
