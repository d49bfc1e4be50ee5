#include "cresco/verbs/generate.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/models/model.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/lint_warning.h"

#include <optional>
#include <set>

namespace cresco::verbs {
namespace {

// First, last, and three between them.
std::vector<std::int64_t> spread(const std::vector<std::int64_t>& steps) {
  std::set<std::int64_t> chosen;
  for (std::size_t i = 0; i < 5; ++i) chosen.insert(steps[i * (steps.size() - 1) / 4]);
  return {chosen.begin(), chosen.end()};
}

}  // namespace

Outcome run_generate(const GenerateVerbConfig& config, VerbContext& context) {
  require_usage(!config.prompt.empty(), "--prompt is needed: the text to continue");
  require_usage(config.generate.top_k == 0 || config.generate.temperature > 0,
                "--top-k needs a --temperature above 0: at 0 the likeliest token is taken");
  const trajectories::Trajectory trajectory(config.trajectory);
  const auto steps =
      config.steps.empty()
          ? spread(trajectory.steps())
          : trajectories::choose_steps(config.steps, trajectory.steps(), config.trajectory);
  const auto own = trajectory.tokenizer();
  require(!config.tokenizer.empty() || own, "{}: has no tokenizer.json; name one with --tokenizer",
          config.trajectory);
  const text::Tokenizer tokenizer =
      text::read_tokenizer(config.tokenizer.empty() ? *own : Path(config.tokenizer));
  if (context.options.dry_run)
    return {.text = fmt::format("would continue {} prompts at steps {}\n", config.prompt.size(),
                                list_steps(steps))};

  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite,
                   std::vector<Path>{trajectory.path()});
  warn_of_findings(trajectory, steps, context);
  artifacts::Table table({"step", "prompt", "continuation"});
  Outcome outcome;
  outcome.summary["continuations"] = Json::array();
  text::Encoder encoder(tokenizer);
  context.progress.begin("generate", static_cast<std::int64_t>(steps.size()), "snapshot");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto model = models::load_model(trajectory.open(steps[i]), at::kFloat,
                                          tensor::parse_device(context.options.device));
    for (const std::string& prompt : config.prompt) {
      std::vector<std::int32_t> ids;
      encoder.encode(prompt, ids);
      for (const std::int32_t id : ids)
        require(id < model->vocab_size(), "token id {} of the prompt, the model's vocab_size is {}",
                id, model->vocab_size());
      auto made =
          models::generate(*model, ids, config.generate, context.seed(), tokenizer.end_of_text());
      std::erase_if(made,
                    [&](std::int32_t id) { return id >= tokenizer.vocab_size(); });  // padding rows
      const std::string continuation = tokenizer.decode(made);
      table.add(steps[i], prompt, escape_for_terminal(continuation));
      outcome.summary["continuations"].push_back(
          {{"step", steps[i]},
           {"prompt", prompt},
           {"continuation", escape_for_terminal(continuation)}});
      outcome.text += fmt::format("step {}: {}|{}\n", steps[i], escape_for_terminal(prompt),
                                  escape_for_terminal(continuation));
    }
    context.progress.update(static_cast<std::int64_t>(i + 1), "");
  }
  context.progress.end();
  if (output) {
    artifacts::write_csv(output->folder() / "continuations.csv", table);
    artifacts::Manifest manifest = manifest_of("generate", config, context);
    for (const std::int64_t step : steps)
      for (const Path& file : trajectory.open(step).files()) manifest.inputs.push_back(file);
    artifacts::write_manifest(output->folder(), manifest);
    output->commit();
  }
  return outcome;
}

}  // namespace cresco::verbs
