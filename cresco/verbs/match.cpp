#include "cresco/verbs/match.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::FeatureMatch;
using dictionaries::Match;
using dictionaries::MatchPlan;
using dictionaries::StoredDecoder;

// The first dictionary with one of the others.
struct Pair {
  const StoredDecoder& a;
  const StoredDecoder& b;
  std::string folder;  // inside --out; "" when there is one pair
  MatchPlan plan;
  std::vector<std::pair<std::string, double>> metrics = {};
};

// Cosines are float32, and written so.
std::string cell(float cosine) { return std::isnan(cosine) ? "" : fmt::format("{}", cosine); }
std::string cell_of(std::int64_t feature) { return feature < 0 ? "" : Table::cell(feature); }

Table matches_table(const Match& match) {
  Table table({"feature", "best", "cosine", "second_best", "second_cosine", "mutual", "assigned",
               "assigned_cosine", "p_value", "p_value_pooled"});
  for (std::size_t i = 0; i < match.features.size(); ++i) {
    const FeatureMatch& feature = match.features[i];
    table.add_row({Table::cell(i), cell_of(feature.best), cell(feature.cosine),
                   cell_of(feature.second_best), cell(feature.second_cosine),
                   feature.counted ? Table::cell(int{feature.mutual}) : "",
                   cell_of(feature.assigned), cell(feature.assigned_cosine),
                   Table::cell(feature.p_value), Table::cell(feature.p_value_pooled)});
  }
  return table;
}

Table summary_table(const Match& match) {
  Table table({"metric", "value"});
  for (const auto& [id, value] : match.metrics) table.add(id, value);
  return table;
}

// Every 200th part, and the ends more closely.
Table null_table(const Match& match) {
  std::vector<double> parts{0.001, 0.999};
  for (int i = 0; i <= 200; ++i) parts.push_back(i / 200.0);
  std::sort(parts.begin(), parts.end());
  Table table({"quantile", "cosine"});
  for (const double part : parts) table.add(part, dictionaries::quantile(match.null_best, part));
  return table;
}

Table histogram_table(const Match& match) {
  Table table({"cosine_from", "cosine_to", "features", "null"});
  for (const auto& bin : match.histogram) table.add(bin.from, bin.to, bin.features, bin.null);
  return table;
}

// The metrics as scripts read them: shares and the null as objects of their own.
Json metrics_json(const std::vector<std::pair<std::string, double>>& metrics) {
  Json out = Json::object(), shares = Json::object(), null = Json::object();
  for (const auto& [id, value] : metrics) {
    const bool is_count = std::floor(value) == value && id.find("share_") == std::string::npos;
    const Json number = is_count ? Json(static_cast<std::int64_t>(value)) : Json(value);
    if (id.starts_with("share_") && id != "share_above_null_p99")
      shares[id.substr(6)] = value;
    else if (id.starts_with("null_"))
      null[id.substr(5)] = number;
    else
      out[id] = number;
  }
  out["shares"] = std::move(shares);
  out["null"] = null["shuffles"] == 0 ? Json(nullptr) : std::move(null);
  return out;
}

std::vector<std::string> write_pair(const Path& folder, const Match& match, const Pair& pair,
                                    const MatchVerbConfig& config, const VerbContext& context) {
  std::filesystem::create_directories(folder);
  std::vector<std::string> tables{"matches.csv", "match_summary.csv", "match_histogram.csv"};
  write_csv(folder / tables[0], matches_table(match));
  write_csv(folder / tables[1], summary_table(match));
  write_csv(folder / tables[2], histogram_table(match));
  if (!match.null_best.empty())
    write_csv(folder / tables.emplace_back("null.csv"), null_table(match));
  artifacts::Manifest manifest = manifest_of("match", config, context);
  manifest.inputs = {pair.a.path(), pair.b.path()};
  Json steps = Json::array();
  for (std::size_t k = 0; k < pair.plan.heads_a.size(); ++k)
    steps.push_back({pair.a.dictionary().steps[static_cast<std::size_t>(pair.plan.heads_a[k])],
                     pair.b.dictionary().steps[static_cast<std::size_t>(pair.plan.heads_b[k])]});
  manifest.facts = {{"a", pair.a.path().string()},
                    {"b", pair.b.path().string()},
                    {"steps_compared", std::move(steps)}};
  artifacts::write_manifest(folder, manifest);
  return tables;
}

// Means over the pairs, of those metrics that all pairs have.
std::vector<std::pair<std::string, double>> mean_metrics(const std::vector<Pair>& pairs) {
  auto mean = pairs[0].metrics;
  for (auto& [id, value] : mean) {
    value = 0;
    for (const Pair& pair : pairs)
      for (const auto& [other, term] : pair.metrics)
        if (other == id) value += term / static_cast<double>(pairs.size());
  }
  return mean;
}

Table pairs_table(const std::vector<Pair>& pairs) {
  std::vector<std::string> columns{"pair", "a", "b"};
  for (const auto& [id, value] : pairs[0].metrics) columns.push_back(id);
  Table table(columns);
  const auto add = [&](const std::string& pair, const std::string& a, const std::string& b,
                       const auto& metrics) {
    std::vector<std::string> row{pair, a, b};
    for (const auto& [id, value] : metrics) row.push_back(Table::cell(value));
    table.add_row(std::move(row));
  };
  for (const Pair& pair : pairs)
    add(pair.folder, pair.a.path().string(), pair.b.path().string(), pair.metrics);
  add("mean", "", "", mean_metrics(pairs));
  return table;
}

// "-" for a metric that there is none of.
std::string shown(const Match& match, const std::string& id) {
  for (const auto& [name, value] : match.metrics)
    if (name == id) return fmt::format("{:.4f}", value);
  return "-";
}

std::string text_of(const Match& match, const Pair& pair, const MatchVerbConfig& config) {
  const auto count = [&](const char* id) { return static_cast<std::int64_t>(match.metric(id)); };
  std::string text = fmt::format(
      "{} in {}: {} and {} features, {} head{}\n", pair.a.path().string(), pair.b.path().string(),
      count("num_a"), count("num_b"), count("num_heads"), count("num_heads") == 1 ? "" : "s");
  text += fmt::format("dead: {} and {}, {}; {} and {} of them have no decoder at all\n",
                      count("dead_a"), count("dead_b"), config.match.dead, count("zero_a"),
                      count("zero_b"));
  text += fmt::format("mmcs {}, the other way {}, symmetric {}\n", shown(match, "mmcs"),
                      shown(match, "mmcs_reverse"), shown(match, "mmcs_symmetric"));
  text += fmt::format("mutual nearest {} ({})\n", count("mutual"), shown(match, "mutual_share"));
  for (const double threshold : dictionaries::thresholds(config.match))
    text += fmt::format("cosine >= {}: {}\n", threshold,
                        shown(match, fmt::format("share_{}", threshold)));
  text += fmt::format("one-to-one: {} pairs, mean {}", count("assigned"),
                      shown(match, "assigned_mean"));
  const double gap = match.metric("assigned_gap");
  text +=
      gap < 1e-9 ? ", the best there is\n" : fmt::format(", at most {:.2g} below the best\n", gap);
  if (config.match.shuffles > 0)
    text += fmt::format(
        "by chance ({} shuffles, {} of {} features): mean {}, p95 {}, p99 {}; {} of the "
        "features reach p99\n",
        count("null_shuffles"), count("null_features"), count("counted_a"),
        shown(match, "null_mean"), shown(match, "null_p95"), shown(match, "null_p99"),
        shown(match, "share_above_null_p99"));
  return text;
}

Outcome plan_outcome(const std::vector<Pair>& pairs) {
  Outcome outcome;
  Json list = Json::array();
  std::int64_t flops = 0, memory = 0;
  for (const Pair& pair : pairs) {
    const MatchPlan& plan = pair.plan;
    flops += plan.nearest_flops + plan.null_flops;
    memory = std::max(memory, plan.memory_bytes);
    outcome.text += fmt::format(
        "{} in {}: {} and {} features, {} heads of {}\n  all pairs {:.3g} FLOPs, null over {} "
        "features {:.3g} FLOPs, {} candidates each for the assignment, about {} of memory\n",
        pair.a.path().string(), pair.b.path().string(), pair.a.num_features(),
        pair.b.num_features(), plan.heads_a.size(), pair.a.width(),
        static_cast<double>(plan.nearest_flops), plan.null_features,
        static_cast<double>(plan.null_flops), std::min(plan.candidates, pair.b.num_features()),
        human_bytes(static_cast<double>(plan.memory_bytes)));
  }
  outcome.summary = {{"pairs", pairs.size()}, {"flops", flops}, {"memory_bytes", memory}};
  return outcome;
}

}  // namespace

Outcome run_match(const MatchVerbConfig& config, VerbContext& context) {
  require_usage(config.dicts.size() >= 2,
                "match: {} dictionary given, two or more are needed: cresco match A B...",
                config.dicts.size());
  require_cpu(context, "match");
  const std::uint64_t seed = context.seed();
  std::vector<std::unique_ptr<StoredDecoder>> decoders;
  for (const std::string& path : config.dicts)
    decoders.push_back(std::make_unique<StoredDecoder>(path, context.progress));
  std::vector<Pair> pairs;
  for (std::size_t i = 1; i < decoders.size(); ++i)
    pairs.push_back(
        {*decoders[0], *decoders[i],
         decoders.size() == 2 ? "" : fmt::format("{}_{}", i, decoders[i]->dictionary().name),
         plan_match(*decoders[0], *decoders[i], config.match)});
  for (const Pair& pair : pairs)
    for (const std::string& note : pair.plan.notes) context.progress.note(note);
  if (context.options.dry_run) return plan_outcome(pairs);
  std::optional<OutputFolder> output;
  if (!context.options.out.empty())
    output.emplace(context.options.out, context.options.overwrite,
                   std::vector<Path>(config.dicts.begin(), config.dicts.end()));

  Outcome outcome;
  Json summaries = Json::array();
  for (Pair& pair : pairs) {
    const Match match = dictionaries::match(pair.a, pair.b, config.match, seed, context.progress);
    pair.metrics = match.metrics;
    Json summary{{"a", pair.a.path().string()}, {"b", pair.b.path().string()}};
    summary.update(metrics_json(match.metrics));
    if (output)
      summary["tables"] = write_pair(output->folder() / pair.folder, match, pair, config, context);
    summaries.push_back(std::move(summary));
    outcome.text += text_of(match, pair, config);
  }
  if (pairs.size() == 1) {
    if (output) output->commit();
    outcome.summary = std::move(summaries[0]);
    return outcome;
  }
  outcome.summary = {{"pairs", std::move(summaries)}, {"mean", metrics_json(mean_metrics(pairs))}};
  if (output) {
    write_csv(output->folder() / "pairs.csv", pairs_table(pairs));
    artifacts::Manifest manifest = manifest_of("match", config, context);
    for (const auto& decoder : decoders) manifest.inputs.push_back(decoder->path());
    artifacts::write_manifest(output->folder(), manifest);
    output->commit();
  }
  return outcome;
}

}  // namespace cresco::verbs
