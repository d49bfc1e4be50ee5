#include "cresco/verbs/readout_geometry.h"

#include "cresco/artifacts/table_text.h"
#include "cresco/base/json.h"
#include "cresco/base/pattern.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/pretrain/run_folder.h"
#include "cresco/spectra/readout_geometry.h"
#include "cresco/spectra/weight_spectra.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

namespace cresco::verbs {
namespace {

using artifacts::Table;

constexpr double kNotSaid = std::numeric_limits<double>::quiet_NaN();

// What a trajectory says of how it was trained.
struct Arm {
  std::string name;
  double readout_multiplier = kNotSaid, warmup = kNotSaid, seed = kNotSaid;
  std::function<double(std::int64_t step)> tokens_at = [](std::int64_t) { return kNotSaid; };
};

Arm arm_of_run(const pretrain::RunFolder& run, const std::string& name) {
  const pretrain::Recipe recipe = run.read_recipe();
  Arm arm{.name = recipe.arm.empty() ? name : recipe.arm,
          .readout_multiplier = 1,
          .warmup = static_cast<double>(recipe.schedule.warmup_steps),
          .seed = static_cast<double>(recipe.seed),
          .tokens_at = [run](std::int64_t step) {
            return static_cast<double>(run.settings_at(step).read_recipe().tokens_at(step));
          }};
  const char* const readout = recipe.model.is_gpt2() ? "lm_head.weight" : "embed_out.weight";
  for (const optim::ParameterRule& rule : recipe.optimizer.rules)
    if (matches(rule.match, readout) && rule.lr_multiplier)
      arm.readout_multiplier = *rule.lr_multiplier;
  return arm;
}

// The published arms keep their settings beside ckpts/.
Arm arm_of_settings(const Path& file, const std::string& name) {
  const Json settings = read_json_file(file);
  const auto number = [&](const char* key) {
    const auto found = settings.find(key);
    return found != settings.end() && found->is_number() ? found->get<double>() : kNotSaid;
  };
  return {.name = name,
          .readout_multiplier = number("readout_lr_mult"),
          .warmup = number("warmup_steps"),
          .seed = number("seed"),
          .tokens_at = [tokens = number("global_batch") * 2048](std::int64_t step) {
            return tokens * static_cast<double>(step);
          }};
}

Arm arm_of(const trajectories::Trajectory& trajectory) {
  const Path& path = trajectory.path();
  const std::string name = std::filesystem::weakly_canonical(path).filename().string();
  if (const pretrain::RunFolder run{path}; run.is_run()) return arm_of_run(run, name);
  if (trajectory.layout() == "recipe_control" && std::filesystem::exists(path / "config.json"))
    return arm_of_settings(path / "config.json", name);
  return {.name = name};
}

// The tensor of a snapshot that has this mathematical name.
at::Tensor read_part(const trajectories::Snapshot& snapshot, const std::string& name) {
  for (const families::MatrixPart& part : snapshot.matrices())
    if (part.name == name) return snapshot.read(part.tensor);
  fail("{}: has no {}: the readout's geometry needs W_U, W_E and the final norm", snapshot.where(),
       name);
}

}  // namespace

bool has_readout(const std::string& path) {
  const trajectories::Trajectory trajectory(path);
  const trajectories::Snapshot first = trajectory.open(trajectory.steps().front());
  const auto& parts = first.matrices();
  return std::any_of(parts.begin(), parts.end(),
                     [](const auto& part) { return part.name == "ln_final.w"; });
}

Table readout_geometries(const std::vector<std::string>& paths, const std::string& steps,
                         const KnownSpectra& known, at::Device device, VerbContext& context) {
  Table table({"cond", "wu_mult", "warmup", "step", "tokens", "rn_mean", "rn_std", "rn_med",
               "rn_max", "rn_tail_frac", "stable_rank", "eff_rank", "top1_frac", "s1", "s2v",
               "we_rn_mean", "lnf_norm", "lnf_max", "seed"});
  for (const std::string& path : paths) {
    const trajectories::Trajectory trajectory(path);
    const Arm arm = arm_of(trajectory);
    const auto chosen = trajectories::choose_steps(steps, trajectory.steps(), path);
    context.progress.begin("geometry of " + arm.name, static_cast<std::int64_t>(chosen.size()),
                           "snapshot");
    std::int64_t done = 0;
    for (const std::int64_t step : chosen) {
      const trajectories::Snapshot snapshot = trajectory.open(step);
      const auto read = [&](const char* name) {
        const at::Tensor t = read_part(snapshot, name).to(device, at::kFloat);
        require(t.isfinite().all().item<bool>(), "{}: {} holds a number that is not finite",
                snapshot.where(), name);
        return t;
      };
      const at::Tensor readout_VD = read("W_U");
      const auto found = known.find(step);
      const auto g = spectra::readout_geometry(
          readout_VD,
          found != known.end() ? found->second
                               : spectra::weight_spectrum(readout_VD).singular_values,
          read("W_E"), read("ln_final.w"));
      table.add(arm.name, arm.readout_multiplier, arm.warmup, step, arm.tokens_at(step), g.rn_mean,
                g.rn_std, g.rn_med, g.rn_max, g.rn_tail_frac, g.stable_rank, g.eff_rank,
                g.top1_frac, g.s1, g.s2v, g.we_rn_mean, g.lnf_norm, g.lnf_max, arm.seed);
      context.progress.update(++done, fmt::format("step {}", step));
    }
    context.progress.end();
  }
  return table;
}

Table arm_differences(const Table& geometries, Progress& progress) {
  // The last line of each run. A run's lines follow each other, in order of their steps; two of one
  // arm and seed differ in what the table does not say, such as the seed of their data.
  std::vector<std::string> arms;
  std::map<std::string, std::vector<std::size_t>> last;
  for (std::size_t row = 0; row < geometries.num_rows(); ++row) {
    const std::string& arm = geometries.text(row, "cond");
    if (!last.contains(arm)) arms.push_back(arm);
    const bool goes_on = row > 0 && arm == geometries.text(row - 1, "cond") &&
                         geometries.text(row, "seed") == geometries.text(row - 1, "seed") &&
                         geometries.number(row, "step") > geometries.number(row - 1, "step");
    if (goes_on)
      last[arm].back() = row;
    else
      last[arm].push_back(row);
  }
  std::set<std::int64_t> ends;
  for (const auto& [arm, rows] : last)
    for (const std::size_t row : rows)
      ends.insert(static_cast<std::int64_t>(geometries.number(row, "step")));
  if (ends.size() > 1)
    progress.note(fmt::format("the runs end at steps {}: they are compared at different ages",
                              fmt::join(ends, ", ")));
  Table table({"cond", "metric", "num_seeds", "mean", "seed_spread", "difference", "spreads"});
  struct Summary {
    double mean = 0, spread = kNotSaid;
  };
  const auto summary = [&](const std::string& arm, const std::string& metric) {
    std::vector<double> values;
    for (const std::size_t row : last.at(arm)) values.push_back(geometries.number(row, metric));
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    Summary s{.spread = values.size() > 1 ? *high - *low : kNotSaid};
    for (const double value : values) s.mean += value / static_cast<double>(values.size());
    return s;
  };
  const std::vector<std::string>& columns = geometries.columns();
  const auto first = std::find(columns.begin(), columns.end(), "rn_mean");
  const auto end = std::find(columns.begin(), columns.end(), "seed");
  for (auto metric = first; metric != end; ++metric) {
    for (const std::string& arm : arms) {
      const Summary own = summary(arm, *metric), base = summary(arms.front(), *metric);
      const double difference = own.mean - base.mean;
      const double spread = std::isnan(own.spread)    ? base.spread
                            : std::isnan(base.spread) ? own.spread
                                                      : std::max(own.spread, base.spread);
      table.add(arm, *metric, last.at(arm).size(), own.mean, own.spread, difference,
                std::abs(difference) / spread);
    }
  }
  return table;
}

std::string arm_differences_text(const Table& differences) {
  Table shown(differences.columns());
  for (std::size_t row = 0; row < differences.num_rows(); ++row) {
    const std::string& metric = differences.text(row, "metric");
    if (metric == "rn_mean" || metric == "stable_rank" || metric == "eff_rank")
      shown.add_row(differences.row(row));
  }
  return to_aligned_text(shown);
}

}  // namespace cresco::verbs
