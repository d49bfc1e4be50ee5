#include "cresco/verbs/score.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/artifacts/table.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/evals/score.h"
#include "cresco/models/model.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/lint_warning.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>

namespace cresco::verbs {
namespace {

using trajectories::Trajectory;

// Bytes of the original text a token, from the manifest of a corpus that we made.
std::optional<double> text_bytes_per_token(const formats::TokenSource& tokens) {
  const std::vector<Path> files = tokens.files();
  if (files.empty()) return std::nullopt;
  const Json manifest = artifacts::read_manifest(files.front());
  if (!manifest.is_object() || !manifest.contains("facts")) return std::nullopt;
  const Json& facts = manifest["facts"];
  if (!facts.contains("num_bytes") || !facts["num_bytes"].is_number()) return std::nullopt;
  const double bytes = facts["num_bytes"].get<double>();
  if (!(bytes > 0) || tokens.num_tokens() == 0) return std::nullopt;
  return bytes / static_cast<double>(tokens.num_tokens());
}

evals::ScoreWindows open_windows(const ScoreConfig& config, std::int64_t model_context) {
  const std::int64_t context = config.context > 0 ? config.context : model_context;
  require(context <= model_context, "--context {}, the model's context has {}", context,
          model_context);
  evals::ScoreWindows windows = config.ids.empty()
                                    ? evals::windows_of_corpus(config.corpus, context)
                                    : evals::windows_of_ids(config.ids);
  if (config.windows > 0) windows.count = std::min(windows.count, config.windows);
  return windows;
}

Json line_of(std::int64_t step, const evals::Score& score,
             const std::optional<double>& text_bytes) {
  Json line{{"step", step},
            {"loss", score.loss},
            {"perplexity", score.perplexity()},
            {"num_tokens", score.num_tokens}};
  if (text_bytes) line["bits_per_byte"] = score.loss / std::numbers::ln2 / *text_bytes;
  return line;
}

// Scores of snapshots that an earlier call has finished: kept while settings, text and the
// snapshot's files are the same.
class Scores {
 public:
  Scores(const Path& folder, Json settings) : folder_(folder), settings_(std::move(settings)) {
    if (folder_.empty() || !std::filesystem::exists(settings_file())) return;
    const std::string changed = first_difference(read_json_file(settings_file()), settings_);
    require(changed.empty(), "{}: holds scores of other settings: {}; --overwrite replaces them",
            folder_.string(), changed);
    if (!std::filesystem::exists(file())) return;
    for (const Json& line : artifacts::read_metrics(file()))
      if (line.contains("files")) lines_[line["step"].get<std::int64_t>()] = line;
  }

  void open_for_writing() {
    if (folder_.empty()) return;
    rewrite();  // first: it is the sign of a folder to go on with
    write_json_file(settings_file(), settings_);
  }

  const Json* find(std::int64_t step, const Json& files) const {
    const auto found = lines_.find(step);
    return found != lines_.end() && found->second["files"] == files ? &found->second : nullptr;
  }

  void add(Json line, const Json& files) {
    line["files"] = files;
    const auto step = line["step"].get<std::int64_t>();
    lines_[step] = std::move(line);
    if (!folder_.empty()) rewrite();
  }

 private:
  Path file() const { return folder_ / "scores.jsonl"; }
  Path settings_file() const { return folder_ / "settings.json"; }
  void rewrite() const {
    std::string text;
    for (const auto& [step, line] : lines_) text += to_line(line) + "\n";
    write_file(file(), text);
  }

  Path folder_;
  Json settings_;
  std::map<std::int64_t, Json> lines_;
};

// An output folder that holds scores is gone on with; any other has to be free.
void make_score_folder(const VerbContext& context, const std::vector<Path>& inputs) {
  const Path out = context.options.out;
  if (!context.options.overwrite && std::filesystem::exists(out / "scores.jsonl")) return;
  make_output_folder(out, context.options.overwrite, inputs);
}

// exp(loss) may be infinite, which JSON writes as null.
double perplexity_of(const Json& line) { return std::exp(line["loss"].get<double>()); }

artifacts::Table table_of(const Json& snapshots) {
  artifacts::Table table({"step", "loss", "perplexity", "bits_per_byte", "num_tokens"});
  for (const Json& line : snapshots) {
    const double bits = line.value("bits_per_byte", std::nan(""));
    table.add(line["step"].get<std::int64_t>(), line["loss"].get<double>(), perplexity_of(line),
              bits, line["num_tokens"].get<std::int64_t>());
  }
  return table;
}

std::string as_text(const Json& snapshots) {
  std::string text = fmt::format("{:>10}  {:>9}  {:>12}  {:>13}  {:>10}\n", "step", "loss",
                                 "perplexity", "bits per byte", "tokens");
  for (const Json& line : snapshots) {
    const std::string bits = line.contains("bits_per_byte")
                                 ? fmt::format("{:.5f}", line["bits_per_byte"].get<double>())
                                 : "";
    text += fmt::format("{:>10}  {:>9.5f}  {:>12.6g}  {:>13}  {:>10}\n",
                        line["step"].get<std::int64_t>(), line["loss"].get<double>(),
                        perplexity_of(line), bits, line["num_tokens"].get<std::int64_t>());
  }
  return text;
}

}  // namespace

Outcome run_score(const ScoreConfig& config, VerbContext& context) {
  require_usage(config.corpus.empty() != config.ids.empty(),
                "one of --corpus and --ids is needed: the text to score");
  require_usage(config.ids.empty() || config.context == 0,
                "--context is of a corpus: the windows of --ids are its rows");
  require_usage(config.batch > 0 && config.context >= 0 && config.windows >= 0,
                "--batch {}, --context {}, --windows {}: expected positive numbers", config.batch,
                config.context, config.windows);
  const at::ScalarType dtype = tensor::scalar_type_named(config.dtype);
  const at::Device device = tensor::parse_device(context.options.device);
  const Trajectory trajectory(config.trajectory);
  const auto steps =
      trajectories::choose_steps(config.steps, trajectory.steps(), trajectory.path().string());
  std::optional<double> text_bytes;
  std::vector<Path> texts{config.ids};
  if (config.ids.empty()) {
    const auto tokens = corpora::open_tokens(config.corpus);
    if (const std::string warning = tokens->warning(); !warning.empty())
      context.progress.note(warning);
    text_bytes = text_bytes_per_token(*tokens);
    texts = tokens->files();
  }

  artifacts::Manifest manifest = manifest_of("score", config, context);
  manifest.dtype = config.dtype;
  manifest.inputs = texts;
  if (context.options.dry_run)
    return {.text = fmt::format("would score {} snapshots of a trajectory of layout {}: {}\n",
                                steps.size(), trajectory.layout(), list_steps(steps))};
  const bool writes = !context.options.out.empty();
  std::vector<Path> inputs_and_models = manifest.inputs;
  inputs_and_models.emplace_back(config.trajectory);
  if (writes) make_score_folder(context, inputs_and_models);
  // What a result depends on beside the snapshot's own files; --steps is not of it.
  Json settings = manifest.settings;
  settings.erase("steps");
  settings.erase("trajectory");  // its files are known by themselves
  Json inputs = Json::array();
  for (const Path& file : manifest.inputs) inputs.push_back(trajectories::file_identity(file));
  Scores scores(context.options.out,
                {{"settings", settings}, {"inputs", inputs}, {"device", context.options.device}});
  scores.open_for_writing();

  watch_for_interrupts();
  warn_of_findings(trajectory, steps, context);
  Json snapshots = Json::array(), sources = Json::object();
  for (std::size_t k = 0; k < steps.size(); ++k) {
    const trajectories::Snapshot snapshot = trajectory.open(steps[k]);
    const Json files = snapshot.identity();
    const Json* known = scores.find(steps[k], files);
    if (!known) {
      const auto model = models::load_model(snapshot, dtype, device);
      const evals::ScoreWindows windows = open_windows(config, model->max_context());
      context.progress.begin(fmt::format("score step {} ({} of {})", steps[k], k + 1, steps.size()),
                             windows.count, "window");
      const double started = now_seconds();
      const evals::Score score =
          evals::score(*model, windows, config.batch, [&](std::int64_t done) {
            if (interrupted()) {
              context.progress.end();
              throw Interrupted(fmt::format("interrupted at step {}; go on with: {}", steps[k],
                                            context.resume_command()));
            }
            const double rate = static_cast<double>(done * (windows.ids_each - 1)) /
                                std::max(1e-9, now_seconds() - started);
            context.progress.update(done, human_count(rate) + " tok/s");
          });
      context.progress.end();
      snapshot.require_unchanged();
      scores.add(line_of(steps[k], score, text_bytes), files);
      known = scores.find(steps[k], files);
    }
    sources[std::to_string(steps[k])] = files;
    Json line = *known;
    line.erase("files");
    snapshots.push_back(std::move(line));
  }

  Outcome outcome{.summary = {{"snapshots", snapshots}}, .text = as_text(snapshots)};
  if (!writes) return outcome;
  write_csv(Path(context.options.out) / "scores.csv", table_of(snapshots));
  manifest.facts = {{"layout", trajectory.layout()}, {"files", sources}};  // name, bytes, time
  artifacts::write_manifest(context.options.out, manifest);
  return outcome;
}

}  // namespace cresco::verbs
