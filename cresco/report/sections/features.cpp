#include "cresco/report/sections/build.h"

#include "cresco/base/require.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace cresco::report {
namespace {

constexpr std::size_t kMostTokenSteps = 5;

// The array's numbers when it fits the other tables.
std::vector<float> curves(const Source& source, const std::string& file, std::size_t num_steps,
                          std::size_t num_features) {
  const auto found = source.arrays.find(file);
  if (found == source.arrays.end()) return {};
  require(found->second.rows == num_steps && found->second.columns == num_features,
          "{}: {} is {} by {}, but steps.csv has {} rows and features.csv {}", source.path, file,
          found->second.rows, found->second.columns, num_steps, num_features);
  return found->second.values;
}

// At most five of the steps that have tokens: the first, the last, and evenly between them.
std::set<double> token_steps(const std::vector<double>& steps) {
  const std::set<double> distinct(steps.begin(), steps.end());
  if (distinct.size() <= kMostTokenSteps) return distinct;
  const std::vector<double> all(distinct.begin(), distinct.end());
  std::set<double> chosen;
  for (std::size_t i = 0; i < kMostTokenSteps; ++i)
    chosen.insert(all[i * (all.size() - 1) / (kMostTokenSteps - 1)]);
  return chosen;
}

std::vector<PromotedToken> promoted_tokens(const artifacts::Table& table) {
  std::vector<PromotedToken> tokens;
  const std::vector<double> features = table.numbers("feature"), steps = table.numbers("step"),
                            ranks = table.numbers("rank"), scores = table.numbers("score"),
                            floors = numbers_or_nan(table, "floor");
  const std::vector<std::string> texts = table.texts("token");
  std::vector<double> finite = steps;
  std::erase_if(finite, [](double step) { return !std::isfinite(step); });
  const std::set<double> chosen = token_steps(finite);
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (std::isfinite(steps[i]) && chosen.contains(steps[i]) && std::isfinite(features[i]) &&
        std::isfinite(ranks[i]))
      tokens.push_back({std::llround(features[i]), std::llround(steps[i]), std::llround(ranks[i]),
                        scores[i], floors[i], texts[i]});
  std::stable_sort(
      tokens.begin(), tokens.end(), [](const PromotedToken& a, const PromotedToken& b) {
        return std::tie(a.feature, a.step, a.rank) < std::tie(b.feature, b.step, b.rank);
      });
  return tokens;
}

}  // namespace

std::optional<Section> build_features(const Sources& sources) {
  const auto found = sources_with(sources, "features.csv");
  if (found.empty()) return std::nullopt;
  Section section{
      .id = "features-section",
      .title = "Features",
      .text =
          "Every feature of the dictionary, with the tokens it promotes. A token in grey scores "
          "no higher than a random direction of the same length would."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Source& source = *found[i];
    FeatureCards cards{.id = figure_id("features", i),
                       .source = "features.csv",
                       .features = source.tables.at("features.csv")};
    if (const auto steps = source.tables.find("steps.csv"); steps != source.tables.end()) {
      for (const double step : steps->second.numbers("step"))
        cards.steps.push_back(std::llround(step));
      const std::size_t num_features = cards.features.num_rows();
      cards.norms = curves(source, "decoder_norms.npy", cards.steps.size(), num_features);
      cards.rates = curves(source, "rates.npy", cards.steps.size(), num_features);
    }
    if (const auto tokens = source.tables.find("promoted_tokens.csv");
        tokens != source.tables.end())
      cards.promoted = promoted_tokens(tokens->second);
    section.blocks.emplace_back(std::move(cards));
  }
  return section;
}

}  // namespace cresco::report
