#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/detail/unit_rows.h"
#include "cresco/dictionaries/match.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>
#include <iterator>

namespace cresco::dictionaries {
namespace {

void check(const MatchConfig& config) {
  require_usage(config.similarity == "concatenated" || config.similarity == "mean",
                "similarity '{}' is not concatenated or mean", config.similarity);
  require_usage(config.dead == "counted" || config.dead == "excluded",
                "dead '{}' is not counted or excluded", config.dead);
  require_usage(config.dead_share >= 0 && config.dead_share < 1,
                "dead_share is {}, expected 0 or more and less than 1", config.dead_share);
  for (const double threshold : config.threshold)
    require_usage(threshold >= -1 && threshold <= 1,
                  "threshold is {}, expected a cosine between -1 and 1", threshold);
  require_usage(config.shuffles >= 0 && config.shuffles <= 1'000'000,
                "shuffles is {}, expected 0 to a million", config.shuffles);
  require_usage(config.null_features >= 0, "null_features is {}, expected 0 (all) or more",
                config.null_features);
  require_usage(config.block_bytes > 0, "block_bytes is {}, expected 1 or more",
                config.block_bytes);
  require_usage(config.assignment_bytes > 0, "assignment_bytes is {}, expected 1 or more",
                config.assignment_bytes);
}

std::vector<std::int64_t> all_heads(const StoredDecoder& decoder) {
  std::vector<std::int64_t> heads(static_cast<std::size_t>(decoder.num_heads()));
  for (std::size_t k = 0; k < heads.size(); ++k) heads[k] = static_cast<std::int64_t>(k);
  return heads;
}

// The heads of these steps, which the dictionary has.
std::vector<std::int64_t> heads_at(const StoredDecoder& decoder,
                                   const std::vector<std::int64_t>& steps) {
  const auto& own = decoder.dictionary().steps;
  std::vector<std::int64_t> heads;
  for (const std::int64_t step : steps)
    heads.push_back(std::lower_bound(own.begin(), own.end(), step) - own.begin());
  return heads;
}

void choose_heads(const StoredDecoder& a, const StoredDecoder& b, const std::string& which,
                  MatchPlan& plan) {
  const std::vector<std::int64_t>&steps_a = a.dictionary().steps, &steps_b = b.dictionary().steps;
  if (which == "all") {
    require(a.num_heads() == b.num_heads(),
            "{} has {} heads, {} has {}: they cannot be taken in order; --heads shared takes the "
            "steps that both have",
            a.path().string(), a.num_heads(), b.path().string(), b.num_heads());
    plan.heads_a = all_heads(a);
    plan.heads_b = all_heads(b);
  } else if (which == "final") {
    plan.heads_a = {a.num_heads() - 1};
    plan.heads_b = {b.num_heads() - 1};
  } else {
    std::vector<std::int64_t> steps;
    std::set_intersection(steps_a.begin(), steps_a.end(), steps_b.begin(), steps_b.end(),
                          std::back_inserter(steps));
    require(!steps.empty(),
            "{} and {} have no step in common: {} and {}; --heads final compares their last, all "
            "their heads in order",
            a.path().string(), b.path().string(), list_steps(steps_a), list_steps(steps_b));
    if (which != "shared")
      steps = trajectories::choose_steps(
          which, steps, fmt::format("{} with {}", a.path().string(), b.path().string()), "--heads");
    plan.heads_a = heads_at(a, steps);
    plan.heads_b = heads_at(b, steps);
  }
}

std::vector<std::string> notes_on(const StoredDecoder& a, const StoredDecoder& b) {
  const Dictionary &one = a.dictionary(), &other = b.dictionary();
  std::vector<std::string> notes;
  const auto differ = [&](const char* what, const std::string& x, const std::string& y,
                          const char* so) {
    if (x != y && !x.empty() && !y.empty())
      notes.push_back(fmt::format("{} is of {} {}, {} of {}: {}", a.path().string(), what,
                                  escape_for_terminal(x), b.path().string(), escape_for_terminal(y),
                                  so));
  };
  const char* const space = "their directions need not mean the same";
  differ("model", one.model_name, other.model_name, space);
  differ("matrix", one.matrix, other.matrix, space);
  differ("input_preprocess", one.training.input_preprocess, other.training.input_preprocess,
         "heads have other weights in the concatenated cosine; --similarity mean gives them equal "
         "ones");
  return notes;
}

}  // namespace

MatchPlan plan_match(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config) {
  check(config);
  require(a.width() == b.width(), "{} is {} wide, {} is {}: they are of different models",
          a.path().string(), a.width(), b.path().string(), b.width());
  MatchPlan plan;
  choose_heads(a, b, config.heads, plan);
  plan.notes = notes_on(a, b);
  const std::int64_t num_a = a.num_features(), num_b = b.num_features();
  const auto length = static_cast<std::int64_t>(plan.heads_a.size()) * a.width();
  plan.candidates = std::clamp<std::int64_t>(config.assignment_bytes / (8 * num_a), 2,
                                             std::max<std::int64_t>(num_b, 2));
  plan.nearest_flops = 2 * num_a * num_b * length;
  const std::int64_t tile_bytes = kTile * length * 4;
  const std::int64_t one_head = kTile * a.width() * (4 + 8);  // as read, and in double
  plan.tiles_in_block =
      std::clamp<std::int64_t>(config.block_bytes / tile_bytes, 1, num_tiles(num_a));
  const std::int64_t nearest_bytes =
      (plan.tiles_in_block + 1) * tile_bytes + one_head + kTile * kTile * 4;
  std::int64_t null_bytes = 0;
  const UnitRows rows_a(a, plan.heads_a, config), rows_b(b, plan.heads_b, config);
  if (config.shuffles > 0) {
    plan.null_features = config.null_features == 0
                             ? rows_a.num_counted()
                             : std::min(config.null_features, rows_a.num_counted());
    plan.null_flops = 2 * plan.null_features * num_b * length * config.shuffles;
    null_bytes =
        plan.null_features * 4 * (length + config.shuffles + 2 * kTile) + 2 * tile_bytes + one_head;
  }
  plan.memory_bytes = 8 * plan.candidates * num_a + std::max(nearest_bytes, null_bytes);
  return plan;
}

}  // namespace cresco::dictionaries
