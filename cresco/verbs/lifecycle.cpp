#include "cresco/verbs/lifecycle.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"
#include "cresco/lifecycle/decoder_geometry.h"
#include "cresco/lifecycle/norm_lifecycle.h"
#include "cresco/lifecycle/population.h"
#include "cresco/lifecycle/promoted_tokens.h"
#include "cresco/lifecycle/rate_lifecycle.h"
#include "cresco/tensor/bridge.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::Dictionary;
using lifecycle::NormLifecycle;
using lifecycle::RateLifecycle;
using trajectories::Stack;

// What is measured of every feature; K snapshots, F features.
struct Measured {
  at::Tensor norms_KF, rates_KF, rotation_JF;
  std::vector<NormLifecycle> by_norm;
  std::vector<RateLifecycle> by_rate;
};

Measured measure(const Dictionary& dictionary, const at::Tensor& x_VKD) {
  const at::Tensor& decoder_KFD = dictionary.parameters.decoder_KFD;
  Measured m{lifecycle::decoder_norms(decoder_KFD),
             lifecycle::firing_rates(dictionary.crosscoder(), x_VKD),
             lifecycle::adjacent_rotation(decoder_KFD),
             {},
             {}};
  m.by_norm = lifecycle::norm_lifecycles(m.norms_KF, dictionary.steps);
  m.by_rate = lifecycle::rate_lifecycles(m.rates_KF, m.norms_KF, m.rotation_JF,
                                         lifecycle::distance_to_terminal(decoder_KFD));
  return m;
}

// The step of a snapshot's index; empty for "never", which is an index past the last.
std::string step_cell(const std::vector<std::int64_t>& steps, std::int64_t index) {
  return index < static_cast<std::int64_t>(steps.size())
             ? Table::cell(steps[static_cast<std::size_t>(index)])
             : "";
}
std::string step_cell(const std::vector<std::int64_t>& steps, std::optional<std::int64_t> index) {
  return index ? step_cell(steps, *index) : "";
}

Table features_table(const Measured& m, const std::vector<std::int64_t>& steps) {
  Table table({"feature", "alive", "born_step", "died_step", "peak_step", "peak_norm", "final_norm",
               "peak_rate", "final_rate", "first_active_step", "lifetime", "stabilized_step",
               "drift", "profile", "peak_rate_step"});
  const at::Tensor peak_norm_F = m.norms_KF.amax(0), peak_rate_F = m.rates_KF.amax(0);
  const auto number = [](const at::Tensor& t, std::int64_t f) {
    return Table::cell(t[f].item<double>());
  };
  for (std::size_t i = 0; i < m.by_norm.size(); ++i) {
    const NormLifecycle& norm = m.by_norm[i];
    const RateLifecycle& rate = m.by_rate[i];
    const auto f = static_cast<std::int64_t>(i);
    table.add_row({Table::cell(f), norm.alive ? "1" : "0", step_cell(steps, norm.born),
                   step_cell(steps, norm.died), step_cell(steps, norm.peak), number(peak_norm_F, f),
                   number(m.norms_KF[-1], f), number(peak_rate_F, f), number(m.rates_KF[-1], f),
                   step_cell(steps, rate.first_active), Table::cell(rate.lifetime),
                   step_cell(steps, rate.stabilized), Table::cell(rate.drift),
                   norm.alive ? name_of(norm.profile) : "", step_cell(steps, rate.peak)});
  }
  return table;
}

Table population_table(const Measured& m, const std::vector<std::int64_t>& steps) {
  Table table({"step", "alive", "born", "died", "mean_rate", "median_norm"});
  const auto population = lifecycle::population(m.norms_KF, m.rates_KF, m.by_norm);
  for (std::size_t k = 0; k < steps.size(); ++k)
    table.add(steps[k], population[k].alive, population[k].born, population[k].died,
              population[k].mean_rate, population[k].median_norm);
  return table;
}

Table steps_table(const std::vector<std::int64_t>& steps) {
  Table table({"step"});
  for (const std::int64_t step : steps) table.add(step);
  return table;
}

std::vector<std::int64_t> alive_features(const Measured& m) {
  std::vector<std::int64_t> features;
  for (std::size_t i = 0; i < m.by_norm.size(); ++i)
    if (m.by_norm[i].alive) features.push_back(static_cast<std::int64_t>(i));
  return features;
}

Table promoted_table(const Measured& m, const Dictionary& dictionary, const Stack& stack,
                     const std::vector<std::int64_t>& indices, const text::Tokenizer& tokenizer,
                     const LifecycleConfig& config, const VerbContext& context, at::Device device) {
  Table table({"feature", "step", "rank", "token_id", "token", "score", "floor"});
  const std::vector<std::int64_t> features = alive_features(m);
  const auto steps = trajectories::choose_steps(config.token_steps, dictionary.steps, config.dict);
  context.progress.begin("promoted tokens", static_cast<std::int64_t>(steps.size()), "snapshot");
  std::int64_t done = 0;
  for (const std::int64_t step : steps) {
    const auto k = std::find(dictionary.steps.begin(), dictionary.steps.end(), step) -
                   dictionary.steps.begin();
    const auto lists =
        lifecycle::promoted_tokens(stack.at(indices[static_cast<std::size_t>(k)]).to(device),
                                   dictionary.parameters.decoder_KFD[k].to(device), features,
                                   tokenizer.vocab_size(), config.top_tokens, context.seed(), step);
    for (const auto& list : lists)
      for (std::size_t r = 0; r < list.tokens.size(); ++r)
        table.add(list.feature, step, r + 1, list.tokens[r].token_id,
                  escape_for_terminal(
                      tokenizer.token_bytes(static_cast<std::int32_t>(list.tokens[r].token_id))),
                  list.tokens[r].score, list.floor);
    context.progress.update(++done, fmt::format("step {}", step));
  }
  context.progress.end();
  return table;
}

Outcome counts(const Measured& m) {
  std::int64_t alive = 0, born = 0, died = 0;
  std::map<std::string, std::int64_t> profiles;
  for (const NormLifecycle& life : m.by_norm) {
    if (!life.alive) continue;
    ++alive;
    born += life.born.has_value();
    died += life.died.has_value();
    ++profiles[name_of(life.profile)];
  }
  Outcome outcome;
  outcome.summary = {{"num_features", m.by_norm.size()},
                     {"alive", alive},
                     {"born", born},
                     {"died", died},
                     {"profiles", profiles}};
  outcome.text =
      fmt::format("{} features: {} alive, {} born, {} died\n", m.by_norm.size(), alive, born, died);
  for (const auto& [name, count] : profiles)
    outcome.text += fmt::format("{:>16} {}\n", name, count);
  return outcome;
}

}  // namespace

Outcome run_lifecycle(const LifecycleConfig& config, VerbContext& context) {
  require_usage(!config.stack.empty(),
                "--stack is needed: the stack that holds the dictionary's steps");
  require_cpu(context, "lifecycle");
  require_usage(config.top_tokens >= 1, "top_tokens is {}, expected 1 or more", config.top_tokens);
  const Path dictionary_path = dictionaries::dictionary_file(config.dict);
  const Dictionary dictionary = dictionaries::read_dictionary(dictionary_path);
  const Stack stack(config.stack);
  const auto indices = dictionaries::heads_in(stack, dictionary);
  std::optional<text::Tokenizer> tokenizer;
  if (!config.tokenizer.empty()) tokenizer = text::read_tokenizer(config.tokenizer);
  trajectories::choose_steps(config.token_steps, dictionary.steps, config.dict);
  if (context.options.dry_run)
    return {.summary = {{"num_features", dictionary.parameters.num_features()}},
            .text = fmt::format("{} features over {} snapshots\n",
                                dictionary.parameters.num_features(), dictionary.steps.size())};
  const Path folder = context.options.out;
  make_output_folder(folder, context.options.overwrite,
                     {dictionary_path, stack.path(), config.tokenizer});

  const at::Device device = tensor::parse_device(context.options.device);
  const auto rows =
      dictionaries::preprocess_stack(stack, indices, dictionary.training.input_preprocess, device);
  const Measured m = measure(dictionary, rows.x_VKD);
  std::vector<std::string> tables{"features.csv",      "population.csv", "steps.csv",
                                  "decoder_norms.npy", "rates.npy",      "rotation.npy"};
  write_csv(folder / tables[0], features_table(m, dictionary.steps));
  write_csv(folder / tables[1], population_table(m, dictionary.steps));
  write_csv(folder / tables[2], steps_table(dictionary.steps));
  tensor::write_npy(folder / tables[3], m.norms_KF);
  tensor::write_npy(folder / tables[4], m.rates_KF);
  tensor::write_npy(folder / tables[5], m.rotation_JF);
  if (tokenizer)
    write_csv(folder / tables.emplace_back("promoted_tokens.csv"),
              promoted_table(m, dictionary, stack, indices, *tokenizer, config, context, device));

  artifacts::Manifest manifest = manifest_of("lifecycle", config, context);
  manifest.inputs = {dictionary_path, stack.path()};
  if (tokenizer) manifest.inputs.push_back(config.tokenizer);
  artifacts::write_manifest(folder, manifest);
  Outcome outcome = counts(m);
  outcome.summary["tables"] = tables;
  return outcome;
}

}  // namespace cresco::verbs
