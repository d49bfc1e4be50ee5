#include "cresco/verbs/extract.h"

#include "cresco/base/strings.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/formats/dtype.h"
#include "cresco/trajectories/steps.h"

namespace cresco::verbs {

Outcome run_extract(const ExtractVerbConfig& config, VerbContext& context) {
  const trajectories::Trajectory trajectory(config.trajectory);
  const Path out = context.options.out;
  if (context.options.dry_run) {
    const auto steps = trajectories::choose_steps(config.extract.steps, trajectory.steps(),
                                                  trajectory.path().string());
    return {.text = fmt::format("would read {} at steps {} of a trajectory of layout {}\n",
                                config.extract.matrix, list_steps(steps), trajectory.layout())};
  }
  make_output_file(out, context.options.overwrite);
  if (const auto tokenizer = trajectory.tokenizer())
    corpora::put_tokenizer(*tokenizer, out.parent_path() / "tokenizer.json");
  const trajectories::Extracted made = trajectories::extract(trajectory, config.extract, out);
  artifacts::Manifest manifest = manifest_of("extract", config, context);
  manifest.facts = {{"source_sha256", made.sha256}};  // of the matrix at each step
  artifacts::write_manifest(out, manifest);
  return {.summary = {{"matrix", config.extract.matrix},
                      {"steps", made.steps},
                      {"shape", made.shape},
                      {"out", out.string()}},
          .text = fmt::format("{}: {} of shape {} at {} steps: {}\n", out.string(),
                              config.extract.matrix, formats::shape_text(made.shape),
                              made.steps.size(), list_steps(made.steps))};
}

}  // namespace cresco::verbs
