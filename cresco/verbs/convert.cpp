#include "cresco/verbs/convert.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/trajectories/steps.h"

namespace cresco::verbs {
namespace {

using trajectories::Converted;
using trajectories::ConvertedStep;

std::string as_text(const Converted& made) {
  std::string text = fmt::format("{:>10}  {:>7}  {:>7}  {:>12}  {:>12}  {}\n", "step", "tensors",
                                 "equal", "max |a-b|", "|a-b|/|a|", "written to");
  for (const ConvertedStep& step : made.steps)
    text += fmt::format("{:>10}  {:>7}  {:>7}  {:>12.3g}  {:>12.3g}  {}\n", step.step,
                        step.num_tensors, step.num_equal, step.max_abs_difference,
                        step.relative_difference, step.out.string());
  for (const std::string& note : made.notes) text += "note: " + note + "\n";
  return text;
}

Json as_json(const Converted& made) {
  Json steps = Json::array();
  for (const ConvertedStep& step : made.steps)
    steps.push_back({{"step", step.step},
                     {"out", step.out.string()},
                     {"num_tensors", step.num_tensors},
                     {"num_equal", step.num_equal},
                     {"max_abs_difference", step.max_abs_difference},
                     {"relative_difference", step.relative_difference}});
  return steps;
}

// A folder of ours that a stopped call left is gone on with; anything else has to be free.
void make_output(const ConvertVerbConfig& config, const VerbContext& context) {
  const Path out = context.options.out;
  const std::string& to = config.convert.to;
  if (to == "hf_steps" || to == "wu_pt" || to == "hf_model") {
    if (context.options.overwrite || (to == "hf_model" && std::filesystem::exists(out)))
      make_output_folder(out, context.options.overwrite, {config.trajectory});
    if (to == "hf_model") std::filesystem::remove(out);  // it appears whole
    return;
  }
  make_output_file(out, context.options.overwrite);
  if (!context.options.overwrite) return;
  for (const char* suffix : {"", ".part", ".part.json"})
    std::filesystem::remove(out.string() + suffix);
}

}  // namespace

Outcome run_convert(const ConvertVerbConfig& config, VerbContext& context) {
  require_usage(!config.convert.to.empty(), "--to is needed: the layout to write");
  const trajectories::Trajectory trajectory(config.trajectory);
  trajectories::check_convert(trajectory, config.convert);
  if (context.options.dry_run)
    return {.text = fmt::format("would convert layout {} to {}\n", trajectory.layout(),
                                config.convert.to)};
  const Path out = context.options.out;
  require_usage(!out.empty(), "--out is needed: where to write");
  make_output(config, context);
  watch_for_interrupts();
  const Converted made = trajectories::convert(trajectory, config.convert, out, context.progress,
                                               context.resume_command());
  const bool is_folder = std::filesystem::is_directory(out);
  const Path folder = is_folder ? out : out.parent_path();
  if (trajectory.tokenizer())
    corpora::put_tokenizer(*trajectory.tokenizer(), folder / "tokenizer.json");
  artifacts::Manifest manifest = manifest_of("convert", config, context);
  manifest.facts = {{"layout", trajectory.layout()}, {"compared", as_json(made)}};
  artifacts::write_manifest(out, manifest);
  return {.summary = {{"from", made.from},
                      {"to", config.convert.to},
                      {"out", out.string()},
                      {"steps", as_json(made)},
                      {"notes", made.notes}},
          .text = as_text(made)};
}

}  // namespace cresco::verbs
