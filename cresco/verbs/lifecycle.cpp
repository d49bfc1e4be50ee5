#include "cresco/verbs/lifecycle.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/released.h"
#include "cresco/lifecycle/cusum.h"
#include "cresco/lifecycle/decoder_geometry.h"
#include "cresco/lifecycle/derived.h"
#include "cresco/lifecycle/firing_density.h"
#include "cresco/lifecycle/neighbours.h"
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

constexpr const char* kFiveSteps = "five";  // of --token-steps

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

// Which features get their lists at which snapshot.
std::vector<std::vector<std::int64_t>> features_by_snapshot(const Measured& m,
                                                            const std::vector<std::int64_t>& steps,
                                                            const LifecycleConfig& config) {
  std::vector<std::vector<std::int64_t>> by_snapshot(steps.size());
  const std::vector<std::int64_t> features = alive_features(m);
  if (config.token_steps == kFiveSteps) {
    const std::vector<double> tau = lifecycle::log_time(steps);
    for (const std::int64_t f : features)
      for (const std::int64_t k :
           lifecycle::five_snapshots(tau, m.by_norm[static_cast<std::size_t>(f)].peak))
        by_snapshot[static_cast<std::size_t>(k)].push_back(f);
    return by_snapshot;
  }
  for (const std::int64_t step : trajectories::choose_steps(config.token_steps, steps, config.dict))
    by_snapshot[static_cast<std::size_t>(std::find(steps.begin(), steps.end(), step) -
                                         steps.begin())] = features;
  return by_snapshot;
}

void add_list(Table& table, std::int64_t feature, std::int64_t step,
              const lifecycle::TokenList& list, const text::Tokenizer& tokenizer) {
  for (std::size_t r = 0; r < list.tokens.size(); ++r)
    table.add(feature, step, r + 1, list.tokens[r].token_id,
              escape_for_terminal(
                  tokenizer.token_bytes(static_cast<std::int32_t>(list.tokens[r].token_id))),
              static_cast<float>(list.tokens[r].score), static_cast<float>(list.floor));
}

struct TokenTables {
  Table promoted{{"feature", "step", "rank", "token_id", "token", "score", "floor"}};
  Table suppressed{promoted.columns()};
};

TokenTables token_tables(const Measured& m, const Dictionary& dictionary, const Stack& stack,
                         const std::vector<std::int64_t>& indices, const text::Tokenizer& tokenizer,
                         const LifecycleConfig& config, const VerbContext& context,
                         at::Device device) {
  TokenTables tables;
  const auto by_snapshot = features_by_snapshot(m, dictionary.steps, config);
  context.progress.begin("tokens", static_cast<std::int64_t>(by_snapshot.size()), "snapshot");
  for (std::size_t k = 0; k < by_snapshot.size(); ++k) {
    if (by_snapshot[k].empty()) continue;
    const std::int64_t step = dictionary.steps[k];
    for (const lifecycle::FeatureTokens& lists : lifecycle::feature_tokens(
             stack.at(indices[k]).to(device),
             dictionary.parameters.decoder_KFD[static_cast<std::int64_t>(k)].to(device),
             by_snapshot[k], tokenizer.vocab_size(), config.top_tokens, context.seed(), step)) {
      add_list(tables.promoted, lists.feature, step, lists.promoted, tokenizer);
      add_list(tables.suppressed, lists.feature, step, lists.suppressed, tokenizer);
    }
    context.progress.update(static_cast<std::int64_t>(k) + 1, fmt::format("step {}", step));
  }
  context.progress.end();
  return tables;
}

Table neighbours_table(const Measured& m, const Dictionary& dictionary, std::int64_t count,
                       Progress& progress) {
  Table table({"feature", "rank", "neighbour", "cosine"});
  const std::vector<std::int64_t> features = alive_features(m);
  const auto nearest = lifecycle::nearest_features(
      dictionary.parameters.decoder_KFD, features, count, [&](std::int64_t done, std::int64_t of) {
        if (done == 1) progress.begin("neighbours", of, "pair of blocks");
        progress.update(done, "");
        if (done == of) progress.end();
      });
  for (std::size_t i = 0; i < features.size(); ++i)
    for (std::size_t r = 0; r < nearest[i].size(); ++r)
      table.add(features[i], r + 1, nearest[i][r].feature,
                static_cast<float>(nearest[i][r].cosine));
  return table;
}

// Per snapshot, and of all snapshots together (an empty step).
Table firing_density_table(const Measured& m, const std::vector<std::int64_t>& steps) {
  Table table({"step", "log10_rate_from", "log10_rate_to", "features"});
  const at::Tensor overall_F = m.rates_KF.mean(0);
  const std::size_t bins =
      std::max(lifecycle::density_bins(m.rates_KF), lifecycle::density_bins(overall_F));
  const auto add = [&](const std::string& step, const at::Tensor& rates_F) {
    const lifecycle::FiringDensity density = lifecycle::firing_density(rates_F, bins);
    table.add(step, "", "", density.never);
    for (std::size_t i = 0; i < bins; ++i)
      table.add(step, density.log10_from(i), density.log10_from(i + 1), density.counts[i]);
  };
  for (std::size_t k = 0; k < steps.size(); ++k)
    add(Table::cell(steps[k]), m.rates_KF[static_cast<std::int64_t>(k)]);
  add("", overall_F);
  return table;
}

// What the dictionary is, with no number measured.
lifecycle::DerivedRun described_run(const Dictionary& dictionary, const Stack& stack) {
  const auto& p = dictionary.parameters;
  return {.name = dictionary.name,
          .model = dictionary.model_name,
          .matrix = dictionary.matrix.empty() ? stack.info().matrix : dictionary.matrix,
          .seed = dictionary.seed,
          .steps = dictionary.steps,
          .input_preprocess = dictionary.training.input_preprocess,
          .statistics = {},
          .rates_KF = at::empty({p.num_heads(), p.num_features()}, at::kMeta),
          .norms_KF = {},
          .rotation_JF = {},
          .distance_to_terminal_KF = {},
          .lives = {}};
}

lifecycle::DerivedRun derived_run(const Dictionary& dictionary, const Measured& m,
                                  std::vector<dictionaries::SnapshotStatistics> statistics,
                                  const Stack& stack) {
  lifecycle::DerivedRun run = described_run(dictionary, stack);
  run.statistics = std::move(statistics);
  run.rates_KF = m.rates_KF;
  run.norms_KF = m.norms_KF;
  run.rotation_JF = m.rotation_JF;
  run.distance_to_terminal_KF = lifecycle::distance_to_terminal(dictionary.parameters.decoder_KFD);
  run.lives = m.by_rate;
  return run;
}

// Error, from headers alone, for seeds whose arrays cannot stand side by side.
void check_seeds(const LifecycleConfig& config, const Dictionary& dictionary, const Stack& stack) {
  std::vector<lifecycle::DerivedRun> runs{described_run(dictionary, stack)};
  for (const std::string& path : config.seeds) {
    const Dictionary other = dictionaries::describe_dictionary(path);
    dictionaries::heads_in(stack, other);
    runs.push_back(described_run(other, stack));
  }
  lifecycle::check_seeds(runs);
}

// The files of each seed, then the arrays of all of them.
std::vector<std::string> write_derived(const LifecycleConfig& config, const Path& folder,
                                       lifecycle::DerivedRun first, const Stack& stack,
                                       VerbContext& context) {
  std::vector<lifecycle::DerivedRun> runs{std::move(first)};
  for (const std::string& path : config.seeds) {
    const Dictionary dictionary = dictionaries::read_dictionary(path);
    auto rows = dictionaries::preprocess_stack(stack, dictionaries::heads_in(stack, dictionary),
                                               dictionary.training.input_preprocess, at::kCPU);
    runs.push_back(
        derived_run(dictionary, measure(dictionary, rows.x_VKD), rows.statistics, stack));
  }
  const lifecycle::DerivedSet set{
      config.set_name.empty() ? lifecycle::set_name(runs[0]) : config.set_name, runs.size() > 1};
  std::vector<std::string> written;
  const auto add = [&](const std::vector<std::string>& paths) {
    written.insert(written.end(), paths.begin(), paths.end());
  };
  if (runs.size() > 1) add(lifecycle::write_derived_of_seeds(folder, set, runs));
  for (const lifecycle::DerivedRun& run : runs) {
    std::optional<lifecycle::CusumNull> null;
    if (config.null_permutations > 0 && run.rates_KF.size(0) >= lifecycle::kLeastSnapshotsOfCusum)
      null = lifecycle::cusum_null(run.rates_KF, config.null_permutations, context.seed(),
                                   context.progress);
    else if (config.null_permutations > 0)
      context.progress.note(fmt::format("{}: {} snapshots, cusum_null.pt needs {}", run.name,
                                        run.rates_KF.size(0), lifecycle::kLeastSnapshotsOfCusum));
    add(lifecycle::write_derived(folder, set, run, null));
  }
  return written;
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
  const double r = lifecycle::rate_rotation_correlation(m.rates_KF, m.rotation_JF);
  outcome.summary = {{"num_features", m.by_norm.size()},
                     {"rate_rotation_r", std::isfinite(r) ? Json(r) : Json()},
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
  require_usage(config.neighbours >= 0, "neighbours is {}, expected 0 or more", config.neighbours);
  require_usage(config.null_permutations >= 0, "null_permutations is {}, expected 0 or more",
                config.null_permutations);
  require_usage(config.seeds.empty() || !config.derived.empty(),
                "--seeds is for the arrays of --derived");
  require_usage(config.set_name.empty() || !config.derived.empty(),
                "--set-name is for the folders of --derived");
  require_usage(config.set_name.find('/') == std::string::npos && !config.set_name.starts_with("."),
                "--set-name '{}': is to be a folder's name", escape_for_terminal(config.set_name));
  require_usage(config.derived.empty() || (!is_within(config.derived, context.options.out) &&
                                           !is_within(context.options.out, config.derived)),
                "--derived {}: is --out {}, lies in it or holds it: each is replaced as a whole",
                config.derived, context.options.out);
  const Path dictionary_path = dictionaries::dictionary_file(config.dict);
  const Dictionary dictionary = dictionaries::read_dictionary(dictionary_path);
  for (const std::string& note : dictionary.notes) context.progress.note(note);
  const Stack stack(config.stack);
  const auto indices = dictionaries::heads_in(stack, dictionary);
  check_seeds(config, dictionary, stack);
  std::optional<text::Tokenizer> tokenizer;
  if (!config.tokenizer.empty()) tokenizer = text::read_tokenizer(config.tokenizer);
  if (config.token_steps != kFiveSteps)
    trajectories::choose_steps(config.token_steps, dictionary.steps, config.dict);
  if (context.options.dry_run)
    return {.summary = {{"num_features", dictionary.parameters.num_features()}},
            .text = fmt::format("{} features over {} snapshots\n",
                                dictionary.parameters.num_features(), dictionary.steps.size())};
  std::vector<Path> inputs{dictionary_path, stack.path()};
  for (const std::string& path : config.seeds)
    inputs.push_back(dictionaries::dictionary_file(path));
  if (tokenizer) inputs.push_back(config.tokenizer);
  OutputFolder output(context.options.out, context.options.overwrite, inputs);
  const Path& folder = output.folder();
  std::optional<OutputFolder> derived;
  if (!config.derived.empty()) derived.emplace(config.derived, context.options.overwrite, inputs);

  const at::Device device = tensor::parse_device(context.options.device);
  const auto rows =
      dictionaries::preprocess_stack(stack, indices, dictionary.training.input_preprocess, device);
  const Measured m = measure(dictionary, rows.x_VKD);
  std::vector<std::string> tables;
  const auto csv = [&](const char* name, const Table& table) {
    write_csv(folder / tables.emplace_back(name), table);
  };
  const auto array = [&](const char* name, const at::Tensor& values) {
    tensor::write_npy(folder / tables.emplace_back(name), values);
  };
  csv("features.csv", features_table(m, dictionary.steps));
  csv("population.csv", population_table(m, dictionary.steps));
  csv("steps.csv", steps_table(dictionary.steps));
  csv("firing_density.csv", firing_density_table(m, dictionary.steps));
  array("decoder_norms.npy", m.norms_KF);
  array("rates.npy", m.rates_KF);
  array("rotation.npy", m.rotation_JF);
  if (config.neighbours > 0)
    csv("neighbours.csv", neighbours_table(m, dictionary, config.neighbours, context.progress));
  if (tokenizer) {
    const TokenTables lists =
        token_tables(m, dictionary, stack, indices, *tokenizer, config, context, device);
    csv("promoted_tokens.csv", lists.promoted);
    csv("suppressed_tokens.csv", lists.suppressed);
  }

  artifacts::Manifest manifest = manifest_of("lifecycle", config, context);
  manifest.inputs = inputs;
  Outcome outcome = counts(m);
  outcome.summary["tables"] = tables;
  artifacts::write_manifest(folder, manifest);
  if (derived) {
    outcome.summary["derived"] =
        write_derived(config, derived->folder(), derived_run(dictionary, m, rows.statistics, stack),
                      stack, context);
    artifacts::write_manifest(derived->folder(), manifest);
    derived->commit();
  }
  output.commit();
  return outcome;
}

}  // namespace cresco::verbs
