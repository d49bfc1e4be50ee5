#include "cresco/report/testing/demo_folder.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/json.h"
#include "cresco/base/random.h"
#include "cresco/formats/npy.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

namespace cresco::report::testing {
namespace {

using artifacts::Table;

const std::vector<std::int64_t> kSteps = {0,   1,   2,   4,    8,    16,   32,   64,
                                          128, 256, 512, 1000, 2000, 3000, 4000, 5000};
constexpr std::int64_t kTokensPerStep = 16384;
constexpr std::size_t kFeatures = 200;
constexpr std::size_t kRanks = 64;

double log_step(std::int64_t step) { return std::log10(1.0 + static_cast<double>(step)); }

void write_made_by(const Path& folder, const std::vector<std::string>& command, int minute,
                   const Json& settings) {
  Json manifest;
  manifest["verb"] = command[1];
  manifest["command"] = command;
  manifest["version"] = "0.1.0";
  manifest["written"] = fmt::format("2026-12-01T10:{:02}:00Z", minute);
  manifest["host"] = "greenhouse";
  manifest["device"] = "cpu";
  manifest["dtype"] = "fp32";
  manifest["threads"] = 2;
  manifest["settings"] = settings;
  manifest["settings_sha256"] = std::string(64, "0123456789abcdef"[minute % 16]);
  manifest["inputs"] = {{{"path", "demo/corpus.bin"},
                         {"bytes", 81920000},
                         {"sha256", std::string(64, "fedcba9876543210"[minute % 16])}}};
  manifest["facts"] = Json::object();
  write_json_file(folder / "manifest.json", manifest);
}

double loss_at(double step) { return 3.05 + 6.2 * std::pow(1 + step / 14, -0.62); }

void write_run(const Path& folder) {
  std::filesystem::create_directories(folder);
  for (const std::int64_t step : kSteps)
    std::filesystem::create_directories(folder / fmt::format("snapshots/step{}", step));
  write_made_by(folder, {"cresco", "pretrain", "recipes/demo.yaml", "--out", "demo/run"}, 5,
                {{"batch", {{"sequences", 64}}}, {"optimizer", {{"lr", 1e-3}}}, {"seed", 0}});
  write_file(folder / "recipe.yaml",
             "model:\n  family: neox  # <b>not bold</b>\n  hidden_size: 256\n");
  write_file(folder / "config.json", "{\"model_type\": \"gpt_neox\", \"hidden_size\": 256}\n");
  RandomStream random(0, "loss");
  std::string lines;
  for (std::int64_t step = 0; step <= 5000; step += step < 20 ? 1 : step < 200 ? 10 : 50) {
    const double now = static_cast<double>(step);
    Json line = {{"step", step}, {"tokens", step * kTokensPerStep}, {"wall_time", 0.2 * now}};
    if (step > 0) {
      line["train/loss"] = loss_at(now) + 0.04 * random.normal();
      line["optim/lr"] = step < 100
                             ? 1e-5 * now
                             : 1e-4 + 9e-4 * 0.5 * (1 + std::cos(3.14159265 * (now - 100) / 4900));
      line["optim/grad_norm"] = 0.4 + 2.5 / (1 + now / 60) * std::exp(0.2 * random.normal());
      line["tokens_per_second"] = 81920.0;
    }
    if (step % 250 == 0 || step == 16) line["val/loss"] = loss_at(now) + 0.05;
    lines += to_line(line) + "\n";
  }
  write_file(folder / "metrics.jsonl", lines);
}

void write_dictionary(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder, {"cresco", "train", "demo/w_u.safetensors", "--d-sae", "200"}, 20,
                {{"d_sae", 200}});
  std::string lines;
  for (int step = 0; step <= 4000; step += 100)
    lines += to_line({{"step", step},
                      {"loss", 1.2 / (1 + step / 300.0) + 0.11},
                      {"l_rec", 1.0 / (1 + step / 300.0) + 0.08},
                      {"l_s", 0.2 / (1 + step / 900.0)},
                      {"l0", 90.0 / (1 + step / 250.0) + 14},
                      {"explained_variance", 0.86 - 0.8 / (1 + step / 200.0)},
                      {"lr", 5e-5 * std::min(1.0, (4000 - step) / 800.0)},
                      {"l1_coefficient", 0.3 * std::min(1.0, step / 200.0)},
                      {"dead", 3 + step / 200}}) +
             "\n";
  write_file(folder / "metrics.jsonl", lines);
}

// Two keys, and a member that failed.
void write_sweep(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder,
                {"cresco", "train", "demo/w_u.safetensors", "--sweep", "l1_coefficient=0.1,0.3,1,3",
                 "d_sae=200,400"},
                22, {{"sweep", {"l1_coefficient", "d_sae"}}});
  Table sweep({"member", "l1_coefficient", "d_sae", "explained_variance_pooled", "l0",
               "dead_rate_1e-6", "reconstruction_mse", "folder"});
  for (const int d_sae : {200, 400})
    for (const double l1 : {0.1, 0.3, 1.0, 3.0}) {
      const std::string member = fmt::format("l1_coefficient={},d_sae={}", l1, d_sae);
      const bool failed = l1 == 3.0 && d_sae == 400;
      const double explained = 0.97 - 0.06 * (1 + std::log10(10 * l1)) * (d_sae == 200 ? 1.4 : 1);
      sweep.add(member, l1, d_sae, failed ? NAN : explained, failed ? NAN : 40 / std::pow(l1, 0.7),
                failed ? NAN : 0.01 * l1, failed ? NAN : 1 - explained, member);
    }
  write_csv(folder / "sweep.csv", sweep);
}

void write_quality(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder, {"cresco", "eval", "demo/dictionary", "--stack", "demo/w_u.safetensors"},
                25, {{"definitions", "all"}});
  Table quality({"step", "explained_variance", "l0", "dead_rate_1e-4", "explained_variance_batch"});
  for (const std::int64_t step : kSteps) {
    const double x = log_step(step);
    quality.add(step, 0.52 + 0.36 / (1 + std::exp(3 * (2.1 - x))), 22 - 8 * std::tanh(x - 2),
                0.02 + 0.01 * x, 0.5 + 0.36 / (1 + std::exp(3 * (2.1 - x))));
  }
  write_csv(folder / "quality_per_snapshot.csv", quality);

  Table pooled({"metric", "value"});
  pooled.add("explained_variance_pooled", 0.8123);
  pooled.add("l0", 17.25);
  pooled.add("dead_rate_1e-4", 0.035);
  pooled.add("dead_rate_1e-6", std::nan(""));
  write_csv(folder / "quality_pooled.csv", pooled);

  Table heldout({"step", "step_before", "step_after", "alpha_log", "explained_variance", "l0"});
  heldout.add(700, 512, 1000, 0.47, 0.71, 18.5);
  heldout.add(1500, 1000, 2000, 0.58, 0.78, 15.9);
  heldout.add(2500, 2000, 3000, 0.55, 0.83, 15.1);
  heldout.add(4500, 4000, 5000, 0.53, 0.85, 14.8);
  write_csv(folder / "heldout.csv", heldout);

  Table baselines({"baseline", "rank", "step", "explained_variance"});
  for (const int rank : {16, 64})
    for (const std::int64_t step : kSteps)
      baselines.add("PCA", rank, step, 0.3 + 0.05 * log_step(step) + 0.003 * rank);
  baselines.add("PCA of all snapshots", 16, "pooled", 0.53);
  write_csv(folder / "linear_baselines.csv", baselines);

  Table fidelity({"model", "d_sae", "seed", "step", "hln_cache", "kl_native_to_recon", "nll_native",
                  "nll_recon", "top1_agreement"});
  Table strata(
      {"model", "d_sae", "seed", "step", "scheme", "bin", "kl_to_native", "top1_agreement"});
  for (const std::int64_t step : kSteps) {
    const double x = log_step(step), kl = 0.02 + 0.1 * x, native = 6 - x;
    fidelity.add("tiny", 200, 0, step, "", kl, native, native + kl, 1 - 0.05 * x);
    for (int decile = 0; decile < 10; ++decile)
      strata.add("tiny", 200, 0, step, "freq_decile", decile, kl * (2 - 0.15 * decile),
                 0.6 + 0.03 * decile);
    strata.add("tiny", 200, 0, step, "length_bin", "8+", kl, 0.7);
  }
  write_csv(folder / "readout_functional_fidelity.csv", fidelity);
  write_csv(folder / "strata_summary.csv", strata);

  Table pca({"rank", "explained_variance"});
  for (const int rank : {1, 2, 4, 8, 16, 32, 64, 128})
    pca.add(rank, 1 - std::pow(1 + rank / 9.0, -0.75));
  write_csv(folder / "pca.csv", pca);
}

// One made-up life: a rise around `birth` and, for some, a fall around `death`, in log10(1 + step).
struct Life {
  double birth, death, size;
  double norm(double x) const {
    return size / (1 + std::exp(6 * (birth - x))) / (1 + std::exp(6 * (x - death)));
  }
};

std::vector<Life> lives() {
  RandomStream random(0, "lives");
  std::vector<Life> all;
  for (std::size_t f = 0; f < kFeatures; ++f) {
    const double birth = f % 7 == 0 ? -2 : 0.4 + 3.1 * random.uniform();
    const double death = f % 4 == 1 ? birth + 1 + random.uniform() : 9;
    all.push_back({birth, death, f % 29 == 3 ? 0 : 0.4 + 1.2 * random.uniform()});
  }
  return all;
}

const char* const kWords[] = {" the", " of",   "ing",   " and", "ed",    " she", ".",    ",",
                              "'s",   " king", " lord", "eth",  " unto", " 12",  "tion", " water"};

// `sign` is 1 for promoted_tokens.csv, -1 for suppressed_tokens.csv.
void write_tokens(const Path& path, const std::vector<Life>& all, int sign) {
  RandomStream random(0, sign > 0 ? "tokens" : "suppressed");
  Table table({"feature", "step", "rank", "token_id", "token", "score", "floor"});
  const auto& hostile = hostile_tokens();
  for (std::size_t f = 0; f < kFeatures; ++f)
    for (const std::size_t k : {0, 4, 8, 11, 15}) {
      const double norm = all[f].norm(log_step(kSteps[k])), floor = 0.2 + 0.1 * norm;
      for (int rank = 1; rank <= 6; ++rank) {
        const std::uint64_t word = random.below(std::size(kWords));
        // The first features promote what tries to break the page.
        const bool attack = f < hostile.size() && rank == 1 && sign > 0;
        table.add(f, kSteps[k], rank, static_cast<std::int64_t>(attack ? 1000 + f : word),
                  attack ? hostile[f] : std::string(kWords[word]),
                  sign * (0.25 + norm) / (0.7 + 0.3 * rank), sign * floor);
      }
    }
  write_csv(path, table);
}

void write_neighbours(const Path& path) {
  Table table({"feature", "rank", "neighbour", "cosine"});
  for (std::size_t f = 0; f < kFeatures; ++f)
    for (std::size_t rank = 1; rank <= 5; ++rank)
      table.add(f, rank, (f + rank * rank) % kFeatures, 1 / (1 + 0.2 * double(rank)));
  write_csv(path, table);
}

void write_firing_density(const Path& path, const std::vector<float>& rates) {
  constexpr int kBins = 20;  // of a quarter of a decade, down from a rate of 1
  Table table({"step", "log10_rate_from", "log10_rate_to", "features"});
  for (std::size_t k = 0; k <= kSteps.size(); ++k) {  // the last: all snapshots together
    const std::string step = k < kSteps.size() ? std::to_string(kSteps[k]) : "";
    std::vector<int> counts(kBins + 1);  // [0]: those that never fire
    for (std::size_t f = 0; f < kFeatures; ++f) {
      double rate = 0;
      for (std::size_t i = 0; i < kSteps.size(); ++i)
        if (i == k || k == kSteps.size())
          rate += rates[i * kFeatures + f] / (k == kSteps.size() ? double(kSteps.size()) : 1);
      const int bin = rate < 1e-5 ? 0 : kBins + 1 + int(std::floor(4 * std::log10(rate)));
      ++counts[static_cast<std::size_t>(std::clamp(bin, 0, kBins))];
    }
    table.add(step, "", "", counts[0]);
    for (int i = 0; i < kBins; ++i)
      table.add(step, (i - kBins) / 4.0, (i + 1 - kBins) / 4.0,
                counts[static_cast<std::size_t>(i) + 1]);
  }
  write_csv(path, table);
}

void write_lifecycle(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder,
                {"cresco", "lifecycle", "demo/dictionary", "--stack", "demo/w_u.safetensors",
                 "--out", "demo/it's here"},
                30, Json::object());
  const std::vector<Life> all = lives();
  const std::size_t K = kSteps.size();
  std::vector<float> norms(K * kFeatures), rates(K * kFeatures);
  Table features({"feature", "alive", "born_step", "died_step", "peak_step", "peak_norm",
                  "final_norm", "peak_rate", "final_rate", "first_active_step", "lifetime",
                  "stabilized_step", "drift", "profile"});
  std::vector<int> alive(K), born(K), died(K);
  for (std::size_t f = 0; f < kFeatures; ++f) {
    std::vector<double> norm;
    for (const std::int64_t step : kSteps) norm.push_back(all[f].norm(log_step(step)));
    const auto peak =
        static_cast<std::size_t>(std::max_element(norm.begin(), norm.end()) - norm.begin());
    double born_step = NAN, died_step = NAN;
    int lifetime = 0;
    for (std::size_t k = 0; k < K; ++k) {
      norms[k * kFeatures + f] = static_cast<float>(norm[k]);
      rates[k * kFeatures + f] =
          static_cast<float>(0.08 * norm[k] * norm[k] / (1 + 0.3 * double(f % 11)));
      const bool now = norm[peak] > 0 && norm[k] >= 0.5 * norm[peak];
      const bool before = k > 0 && norm[k - 1] >= 0.5 * norm[peak];
      alive[k] += now;
      lifetime += now;
      if (now && !before && k > 0) {
        ++born[k];
        born_step = double(kSteps[k]);
      }
      if (!now && before && norm[peak] > 0) {
        ++died[k];
        died_step = double(kSteps[k - 1]);
      }
    }
    const char* const profile = norm[peak] == 0         ? ""
                                : std::isnan(died_step) ? "persistent"
                                                        : "transient";
    features.add(f, norm[peak] > 0 ? 1 : 0, born_step, died_step,
                 norm[peak] > 0 ? double(kSteps[peak]) : NAN, norm[peak], norm.back(),
                 double(rates[peak * kFeatures + f]), double(rates[(K - 1) * kFeatures + f]),
                 born_step, lifetime, NAN, 0.1 * double(f % 8), profile);
  }
  write_csv(folder / "features.csv", features);

  Table population({"step", "alive", "born", "died", "mean_rate", "median_norm"});
  Table steps({"step"});
  for (std::size_t k = 0; k < K; ++k) {
    population.add(kSteps[k], alive[k], born[k], died[k], 0.01 * double(k), 0.3 + 0.02 * double(k));
    steps.add(kSteps[k]);
  }
  write_csv(folder / "population.csv", population);
  write_csv(folder / "steps.csv", steps);
  write_firing_density(folder / "firing_density.csv", rates);
  const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(K),
                                           static_cast<std::int64_t>(kFeatures)};
  formats::write_npy(folder / "decoder_norms.npy", shape, norms);
  formats::write_npy(folder / "rates.npy", shape, rates);
  write_tokens(folder / "promoted_tokens.csv", all, 1);
  write_tokens(folder / "suppressed_tokens.csv", all, -1);
  write_neighbours(folder / "neighbours.csv");
}

void write_continuations(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder, {"cresco", "generate", "demo/run", "--prompt", "In the beginning"}, 35,
                {{"prompt", "In the beginning"}});
  Table table({"step", "prompt", "continuation"});
  table.add(0, "In the beginning", " Ġqu unto\\xff\\x00 thereofvv 71 dom dom");
  table.add(64, "In the beginning", " the the of the, and the of the the");
  table.add(512, "In the beginning", " of the people, and the king said unto him");
  table.add(1000, "In the beginning",
            " of the world, <script>alert(1)</script> and \u202eevil\u202c");
  table.add(5000, "In the beginning",
            " of the reign of Jehoiakim the son of Josiah king of Judah came this word unto "
            "Jeremiah from the LORD");
  write_csv(folder / "continuations.csv", table);
}

void write_spectra(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder, {"cresco", "spectra", "demo/run", "--weights"}, 40, {{"weights", true}});
  Table values({"step", "matrix", "rank", "singular_value"});
  Table weights(
      {"step", "matrix", "frobenius_norm", "spectral_norm", "stable_rank", "effective_rank"});
  for (const std::int64_t step : kSteps) {
    const double x = log_step(step);
    double squares = 0, first = 0, total = 0, entropy = 0;
    std::vector<double> all;
    for (std::size_t r = 1; r <= kRanks; ++r) {
      const double flat = 4.5 - 1.2 * std::sqrt(double(r) / kRanks);
      const double value = flat * (1 + 0.35 * x * x * std::pow(double(r), -0.35 - 0.16 * x));
      values.add(step, "W_U", r, value);
      all.push_back(value * value);
      squares += value * value;
      first = std::max(first, value);
    }
    for (const double value : all) total += value;
    for (const double value : all) entropy -= value / total * std::log(value / total);
    weights.add(step, "W_U", std::sqrt(squares), first, squares / (first * first),
                std::exp(entropy));
  }
  write_csv(folder / "singular_values.csv", values);
  write_csv(folder / "weight_spectra.csv", weights);
}

// Two thirds of the features found again, the others at what chance gives.
void write_match(const Path& folder) {
  std::filesystem::create_directories(folder);
  write_made_by(folder, {"cresco", "match", "demo/dictionary", "demo/seed1", "demo/seed2"}, 45,
                {{"shuffles", 100}});
  Table matches({"feature", "best", "cosine", "second_best", "second_cosine", "mutual", "assigned",
                 "assigned_cosine", "p_value", "p_value_pooled"});
  RandomStream random(0, "matches");
  constexpr double kBin = 0.02;
  std::map<int, std::pair<int, int>> bins;  // features and null
  double sum = 0;
  for (std::size_t f = 0; f < kFeatures; ++f) {
    if (f == 7) {  // dead, and left out
      matches.add_row({"7", "", "", "", "", "", "", "", "", ""});
      continue;
    }
    const bool same = f % 3 != 0;
    const double cosine =
        same ? 1 - 0.4 * random.uniform() * random.uniform() : 0.16 + 0.04 * random.normal();
    const double p = same ? 1.0 / 101 : random.uniform();
    matches.add(f, (f * 37) % kFeatures, cosine, (f * 53) % kFeatures,
                std::min(cosine, 0.12 + 0.02 * random.uniform()), same ? 1 : 0,
                (f * 37) % kFeatures, cosine, p, p);
    sum += cosine;
    ++bins[static_cast<int>(std::floor(cosine / kBin))].first;
    for (int s = 0; s < 5; ++s)
      ++bins[static_cast<int>(std::floor((0.16 + 0.03 * random.normal()) / kBin))].second;
  }
  write_csv(folder / "matches.csv", matches);
  Table histogram({"cosine_from", "cosine_to", "features", "null"});
  for (int bin = bins.begin()->first; bin <= bins.rbegin()->first; ++bin)
    histogram.add(bin * kBin, (bin + 1) * kBin, double(bins[bin].first) / double(kFeatures - 1),
                  double(bins[bin].second) / double(5 * (kFeatures - 1)));
  write_csv(folder / "match_histogram.csv", histogram);
  Table summary({"metric", "value"});
  const std::vector<std::pair<const char*, double>> metrics = {
      {"num_a", kFeatures},    {"num_b", kFeatures},
      {"dead_a", 1},           {"mmcs", sum / (kFeatures - 1.0)},
      {"mutual", 133},         {"share_0.9", 0.55},
      {"assigned_mean", 0.63}, {"pair_cosine_rms", 0.061},
      {"null_shuffles", 100},  {"null_mean", 0.161},
      {"null_p95", 0.209},     {"null_p99", 0.23}};
  for (const auto& [metric, value] : metrics) summary.add(metric, value);
  write_csv(folder / "match_summary.csv", summary);
  Table pairs({"pair", "a", "b", "mmcs_symmetric", "mutual_share", "share_0.9", "assigned_mean",
               "null_p99"});
  pairs.add("1_seed1", "demo/dictionary", "demo/seed1", 0.66, 0.67, 0.55, 0.63, 0.23);
  pairs.add("mean", "", "", 0.66, 0.67, 0.55, 0.63, 0.23);
  write_csv(folder / "pairs.csv", pairs);
}

}  // namespace

const std::vector<std::string>& hostile_tokens() {
  static const std::vector<std::string> tokens = {
      "<script>alert(1)</script>",
      "</script>",
      "</script><img src=x onerror=alert(6)>",
      "\"><img src=x onerror=alert(2)>",
      "<!--<script>",
      "]]>",
      "&lt;b&gt;",
      "' onmouseover='alert(3)",
      "\u202eright to left",
      "\u2066isolate",
      "zero\u200bwidth",
      "line\u2028end",
      "new\nline",
      std::string("nul\0byte", 8),
      "\xff\xfe",
      "\x1b[31mred",
      "שלום",
      "{{script}}",
      "${alert(4)}",
      "javascript:alert(5)",
      "a\u0301\u0302\u0303\u0304\u0305",
      std::string(200, 'w'),
  };
  return tokens;
}

void write_demo_folder(const Path& folder) {
  write_run(folder / "run");
  write_dictionary(folder / "dictionary");
  write_sweep(folder / "sweep");
  write_quality(folder / "quality");
  write_lifecycle(folder / "lifecycle");
  write_continuations(folder / "generate");
  write_spectra(folder / "spectra");
  write_match(folder / "match");

  Table baselines({"name", "loss", "description"});
  baselines.add("uniform", std::log(8192.0), "every token alike");
  baselines.add("unigram", 6.21, "how often each token stands in the training text");
  baselines.add("bigram", 4.37, "interpolated with the unigram");
  write_csv(folder / "baselines.csv", baselines);

  Table planted({"planted", "num_tokens", "feature", "score", "found"});
  RandomStream random(0, "planted");
  for (int i = 0; i < 24; ++i) {
    const double score = 0.35 + 0.65 * std::sqrt(random.uniform());
    planted.add(fmt::format("group {}", i), 4 + i % 9, i * 7, score, score > 0.6 ? 1 : 0);
  }
  write_csv(folder / "planted.csv", planted);
}

}  // namespace cresco::report::testing
