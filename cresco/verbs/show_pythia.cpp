#include "cresco/verbs/show_pythia.h"

#include "cresco/base/json.h"
#include "cresco/families/pythia.h"
#include "cresco/optim/schedule.h"
#include "cresco/trajectories/steps.h"

#include <numeric>

namespace cresco::verbs {
namespace {

using families::KnownFault;
using families::PythiaModel;

const optim::ScheduleConfig kSchedule{"neox_cosine", families::kPythiaWarmupSteps,
                                      families::kPythiaSteps, families::kPythiaMinLrRatio};

Json faults_json(const std::string& model) {  // "" is every fault
  Json out = Json::array();
  for (const KnownFault& fault : families::pythia_known_faults())
    if (model.empty() || fault.model == "all" || fault.model == model)
      out.push_back({{"model", fault.model},
                     {"steps", fault.steps},
                     {"what", fault.what},
                     {"source", fault.source},
                     {"reported", fault.reported},
                     {"repaired", fault.repaired}});
  return out;
}

Json model_json(const PythiaModel& model, bool deduped) {
  const families::NeoxConfig config = model.config();
  const std::string name = model.name() + (deduped ? "-deduped" : "");
  const std::int64_t parameters = families::num_parameters(families::neox_tensors(config));
  return {{"name", name},
          {"repository", "EleutherAI/" + name},
          {"layers", model.layers},
          {"width", model.width},
          {"heads", model.heads},
          {"head_size", config.head_size()},
          {"rotary_dims", config.rotary_size()},
          {"vocab_size", model.vocab},
          {"parameters", parameters},
          {"non_embedding_parameters", parameters - 2 * model.vocab * model.width},
          {"peak_lr", model.peak_lr},
          {"min_lr", model.peak_lr * families::kPythiaMinLrRatio},
          {"init_std", {{"input", model.input_std()}, {"output", model.output_std()}}},
          {"init_formula", {{"small_init", model.small_init()}, {"wang_init", model.wang_init()}}},
          {"precision", deduped ? model.deduped_precision : model.precision},
          {"notes", families::pythia_notes(model, deduped)}};
}

// What all models share.
void add_training(Json& out) {
  out["tokenizer_ids"] = families::kPythiaTokenizerIds;
  out["context"] = families::kPythiaContext;
  out["batch_size"] = families::kPythiaBatch;
  out["tokens_per_step"] = families::kPythiaTokensPerStep;
  out["total_steps"] = families::kPythiaSteps;
  out["total_tokens"] = families::kPythiaSteps * families::kPythiaTokensPerStep;
  out["warmup_steps"] = families::kPythiaWarmupSteps;
  out["schedule"] = kSchedule.name;
  const auto steps = families::pythia_checkpoints();
  out["num_checkpoints"] = steps.size();
  out["steps"] = steps;
}

std::string training_text() {
  const auto steps = families::pythia_checkpoints();
  return fmt::format(
      "batch {} x {} = {} tokens a step, {} steps, {} of warm-up\n"
      "lr(t) = peak t/{w} for t <= {w}, then max(peak/2 (1 + cos(pi n/{s})), peak/10) with "
      "n = min(t, {s} - {w}) - {w}\n"
      "{} checkpoints: {}\n",
      families::kPythiaBatch, families::kPythiaContext, families::kPythiaTokensPerStep,
      families::kPythiaSteps, families::kPythiaWarmupSteps, steps.size(), list_steps(steps),
      fmt::arg("w", families::kPythiaWarmupSteps), fmt::arg("s", families::kPythiaSteps));
}

std::string faults_text(const Json& faults) {
  std::string text = faults.empty() ? "" : "known faults of published weights:\n";
  for (const Json& fault : faults) {
    const auto steps = fault["steps"].get<std::vector<std::int64_t>>();
    text += fmt::format("  {}{}: {} ({}, {}{})\n", fault["model"].get<std::string>(),
                        steps.empty() ? "" : " steps " + list_steps(steps),
                        fault["what"].get<std::string>(), fault["source"].get<std::string>(),
                        fault["reported"].get<std::string>(),
                        fault["repaired"].get<bool>() ? ", uploaded again since" : "");
  }
  return text;
}

Outcome show_suite() {
  Json out{{"kind", "pythia_suite"}, {"models", Json::array()}};
  std::string text = fmt::format(
      "{:<12} {:>6} {:>5} {:>5} {:>9} {:>6} {:>6} {:>14} {:>14} {:>8} {:>8} {:>17} {}\n", "model",
      "layers", "width", "heads", "head size", "rotary", "vocab", "parameters", "non-embedding",
      "peak lr", "min lr", "initial std", "precision");
  for (const PythiaModel& model : families::pythia_models()) {
    const Json j = model_json(model, false);
    text += fmt::format(
        "{:<12} {:>6} {:>5} {:>5} {:>9} {:>6} {:>6} {:>14} {:>14} {:>8} {:>8} {:>8.6f} {:>8.6f} "
        "{}\n",
        model.name(), model.layers, model.width, model.heads, j["head_size"].get<std::int64_t>(),
        j["rotary_dims"].get<std::int64_t>(), model.vocab, j["parameters"].get<std::int64_t>(),
        j["non_embedding_parameters"].get<std::int64_t>(), fmt::format("{:.1e}", model.peak_lr),
        fmt::format("{:.1e}", j["min_lr"].get<double>()), model.input_std(), model.output_std(),
        model.precision);
    out["models"].push_back(j);
    if (model.has_deduped) out["models"].push_back(model_json(model, true));
  }
  add_training(out);
  out["known_faults"] = faults_json("");
  text += "initial std: of embeddings, QKV and h->4h; of what writes into the residual\n" +
          training_text() + faults_text(out["known_faults"]);
  return {.summary = out, .text = text};
}

Outcome show_model(const families::PythiaName& name, const std::string& steps) {
  Json out{{"kind", "pythia_model"}};
  out.update(model_json(*name.model, name.deduped));
  std::string text;
  for (const auto& [key, value] : out.items())
    if (key != "notes" && key != "kind")
      text += fmt::format("{}: {}\n", key,
                          value.is_string() ? value.get<std::string>() : to_line(value));
  for (const Json& note : out["notes"]) text += "note: " + note.get<std::string>() + "\n";
  add_training(out);
  out["known_faults"] = faults_json(out["name"].get<std::string>());
  text += training_text() + faults_text(out["known_faults"]);
  if (steps.empty()) return {.summary = out, .text = text};

  std::vector<std::int64_t> all(static_cast<std::size_t>(families::kPythiaSteps + 1));
  std::iota(all.begin(), all.end(), 0);
  const auto checkpoints = families::pythia_checkpoints();
  out["at"] = Json::array();
  text.clear();
  for (const std::int64_t step : trajectories::choose_steps(steps, all, "pythia")) {
    const double lr = name.model->peak_lr * optim::lr_factor(kSchedule, step, 0);
    const std::int64_t tokens = step * families::kPythiaTokensPerStep;
    const bool published = std::binary_search(checkpoints.begin(), checkpoints.end(), step);
    out["at"].push_back(
        {{"step", step}, {"lr", lr}, {"tokens", tokens}, {"has_checkpoint", published}});
    text += fmt::format("step {}: {} tokens seen, the next update has lr {:.6g}{}\n", step, tokens,
                        lr, published ? "" : " (no published checkpoint)");
  }
  return {.summary = out, .text = text};
}

}  // namespace

std::optional<Outcome> show_pythia(const std::string& name, const std::string& steps) {
  if (name == "pythia" || name == "EleutherAI/pythia") {
    require_usage(steps.empty(), "--step: name one model, as in pythia-160m");
    return show_suite();
  }
  const auto found = families::find_pythia(name);
  return found ? std::optional(show_model(*found, steps)) : std::nullopt;
}

}  // namespace cresco::verbs
