#include "cresco/verbs/convert.h"

#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/dictionaries/exports.h"
#include "cresco/verbs/convert_dictionary.h"

#include <algorithm>
#include <optional>

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

// What decides what stands in an output folder: one that says the same is gone on with.
Json folder_settings(const ConvertVerbConfig& config) {
  return {{"trajectory", std::filesystem::weakly_canonical(config.trajectory).string()},
          {"to", config.convert.to},
          {"dtype", config.convert.dtype},
          {"model_config", config.convert.model_config}};
}

// An output never stands in what it is made from, nor holds it. A folder that a stopped call of the
// same settings left is gone on with; any other has to be free.
void make_output(const ConvertVerbConfig& config, const VerbContext& context) {
  const Path out = context.options.out;
  require_usage(!is_within(out, config.trajectory) && !is_within(config.trajectory, out),
                "--out {}: is what is to be read, or lies in it, or holds it", out.string());
  const std::string& to = config.convert.to;
  if (to == "hf_steps" || to == "wu_pt") {
    const Path settings = out / "settings.json";
    if (!context.options.overwrite && std::filesystem::exists(settings)) {
      const std::string changed =
          first_difference(read_json_file(settings), folder_settings(config));
      require(changed.empty(), "{}: holds another conversion: {}; --overwrite replaces it",
              out.string(), changed);
      return;
    }
    make_output_folder(out, context.options.overwrite);
    write_json_file(settings, folder_settings(config));
  } else if (to != "hf_model") {
    make_output_file(out, context.options.overwrite);
    if (!context.options.overwrite) return;
    for (const char* suffix : {"", ".part", ".part.json"})
      std::filesystem::remove(out.string() + suffix);
  }
}

// Where the files of an output stand.
Path output_folder(const ConvertVerbConfig& config, const Path& out) {
  const std::string& to = config.convert.to;
  return to == "hf_steps" || to == "wu_pt" || to == "hf_model" ? out : out.parent_path();
}

}  // namespace

Outcome run_convert(const ConvertVerbConfig& config, VerbContext& context) {
  require_usage(!config.convert.to.empty(), "--to is needed: the layout to write");
  if (config.convert.to == "index") return convert_to_index(config, context);
  if (is_dictionary_layout(config.convert.to)) return convert_dictionary(config, context);
  std::vector<std::string> known = trajectories::converted_layouts();
  known.insert(known.end(), {"index", "dictionary"});
  const auto& others = dictionaries::export_layouts();
  known.insert(known.end(), others.begin(), others.end());
  require_usage(std::find(known.begin(), known.end(), config.convert.to) != known.end(),
                "--to '{}' is not one of {}{}", escape_for_terminal(config.convert.to),
                join(known, ", "), did_you_mean(config.convert.to, known));
  for (const auto& [option, value] :
       {std::pair{"from", config.from}, std::pair{"stack", config.stack},
        std::pair{"model", config.model}})
    require_usage(value.empty(), "--{} is for dictionaries; --to {} is of trajectories and models",
                  option, escape_for_terminal(config.convert.to));
  const trajectories::Trajectory trajectory(config.trajectory);
  trajectories::check_convert(trajectory, config.convert);
  if (context.options.dry_run)
    return {.text = fmt::format("would convert layout {} to {}\n", trajectory.layout(),
                                config.convert.to)};
  require_usage(!context.options.out.empty(), "--out is needed: where to write");
  if (Path given = context.options.out; !given.has_filename() && given.has_parent_path())
    context.options.out = given.parent_path().string();  // without a slash at its end
  const Path out = context.options.out;
  make_output(config, context);
  std::optional<OutputFolder> whole;  // of a layout that is not gone on with
  if (config.convert.to == "hf_model") whole.emplace(out, context.options.overwrite);
  const Path place = whole ? whole->folder() : out;
  const auto put_tokenizer = [&] {
    if (trajectory.tokenizer())
      corpora::put_tokenizer(*trajectory.tokenizer(),
                             output_folder(config, place) / "tokenizer.json");
  };
  if (!whole) put_tokenizer();  // before the work: another one there is in the way
  watch_for_interrupts();
  Converted made = trajectories::convert(trajectory, config.convert, place, context.progress,
                                         context.resume_command());
  if (whole) {
    put_tokenizer();
    for (ConvertedStep& step : made.steps) step.out = out;
  }
  artifacts::Manifest manifest = manifest_of("convert", config, context);
  Json sources = Json::object();
  for (const ConvertedStep& step : made.steps)
    sources[std::to_string(step.step)] = trajectory.open(step.step).identity();
  manifest.facts = {{"layout", trajectory.layout()},
                    {"files", sources},  // name, bytes, time
                    {"compared", as_json(made)}};
  artifacts::write_manifest(place, manifest);
  if (whole) whole->commit();
  return {.summary = {{"from", made.from},
                      {"to", config.convert.to},
                      {"out", out.string()},
                      {"steps", as_json(made)},
                      {"notes", made.notes}},
          .text = as_text(made)};
}

}  // namespace cresco::verbs
