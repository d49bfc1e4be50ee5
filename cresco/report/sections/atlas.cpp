#include "cresco/report/sections/build.h"

#include "cresco/base/require.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

namespace cresco::report {
namespace {

constexpr std::size_t kMostTokenSteps = 5, kMostTokens = 20;

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

// Numbers of features to rows of features.csv.
class Rows {
 public:
  explicit Rows(const artifacts::Table& features) {
    const std::vector<double> ids = features.numbers("feature");
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (std::isfinite(ids[i])) rows_.emplace(ids[i], static_cast<std::uint32_t>(i));
  }
  // Whether there is such a feature; `row` is set when there is.
  bool find(double feature, std::uint32_t& row) const {
    const auto found = rows_.find(feature);
    if (found == rows_.end()) return false;
    row = found->second;
    return true;
  }

 private:
  std::unordered_map<double, std::uint32_t> rows_;
};

// One place for each text.
class Vocabulary {
 public:
  explicit Vocabulary(std::vector<std::string>& texts) : texts_(texts) {}
  std::uint32_t place_of(const std::string& text) {
    const auto [entry, is_new] = places_.try_emplace(text, texts_.size());
    if (is_new) texts_.push_back(text);
    return entry->second;
  }

 private:
  std::vector<std::string>& texts_;
  std::unordered_map<std::string, std::uint32_t> places_;
};

// Of lists at many snapshots five are kept for each feature: the first, the last, and evenly
// between.
void keep_five(std::vector<TokenList>& lists) {
  std::vector<TokenList> kept;
  for (std::size_t begin = 0, end = 0; begin < lists.size(); begin = end) {
    while (end < lists.size() && lists[end].row == lists[begin].row) ++end;
    const std::size_t count = end - begin, most = std::min(count, kMostTokenSteps);
    for (std::size_t i = 0; i < most; ++i)
      kept.push_back(std::move(lists[most < 2 ? begin : begin + i * (count - 1) / (most - 1)]));
  }
  lists = std::move(kept);
}

// `num_cut` counts the tokens past the first kMostTokens of a list.
std::vector<TokenList> token_lists(const Source& source, const std::string& file, const Rows& rows,
                                   Vocabulary& vocabulary, std::size_t& num_cut) {
  struct Entry {
    std::uint32_t row, token;
    std::int64_t step;
    double rank;
    float score, floor;
  };
  std::vector<Entry> entries;
  const auto found = source.tables.find(file);
  if (found == source.tables.end()) return {};
  const artifacts::Table& table = found->second;
  const std::vector<double> features = table.numbers("feature"), steps = table.numbers("step"),
                            ranks = table.numbers("rank"), scores = table.numbers("score"),
                            floors = numbers_or_nan(table, "floor");
  const std::vector<std::string> texts = table.texts("token");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Entry entry{.step = 0, .rank = ranks[i]};
    if (!std::isfinite(steps[i]) || !std::isfinite(ranks[i]) || !rows.find(features[i], entry.row))
      continue;
    entry.step = std::llround(steps[i]);
    entry.token = vocabulary.place_of(texts[i]);
    entry.score = static_cast<float>(scores[i]);
    entry.floor = static_cast<float>(floors[i]);
    entries.push_back(entry);
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.row, a.step, a.rank) < std::tie(b.row, b.step, b.rank);
  });
  std::vector<TokenList> lists;
  for (const Entry& entry : entries) {
    if (lists.empty() || lists.back().row != entry.row || lists.back().step != entry.step)
      lists.push_back({.row = entry.row, .step = entry.step, .floor = entry.floor});
    if (lists.back().tokens.size() < kMostTokens)
      lists.back().tokens.push_back({entry.token, entry.score});
    else
      ++num_cut;
  }
  keep_five(lists);
  return lists;
}

std::vector<Neighbour> neighbours(const Source& source, const Rows& rows) {
  const auto found = source.tables.find("neighbours.csv");
  if (found == source.tables.end()) return {};
  const artifacts::Table& table = found->second;
  const std::vector<double> features = table.numbers("feature"),
                            others = table.numbers("neighbour"), cosines = table.numbers("cosine");
  std::vector<Neighbour> all;
  for (std::size_t i = 0; i < cosines.size(); ++i) {
    Neighbour neighbour{.cosine = static_cast<float>(cosines[i])};
    if (std::isfinite(cosines[i]) && rows.find(features[i], neighbour.row) &&
        rows.find(others[i], neighbour.neighbour))
      all.push_back(neighbour);
  }
  std::stable_sort(all.begin(), all.end(), [](const Neighbour& a, const Neighbour& b) {
    return std::make_pair(a.row, -a.cosine) < std::make_pair(b.row, -b.cosine);
  });
  return all;
}

FeatureAtlas atlas_of(const Source& source) {
  FeatureAtlas atlas{.source = "features.csv", .features = source.tables.at("features.csv")};
  require(atlas.features.has("feature"), "{}: features.csv has no column 'feature'; it has {}",
          source.path, fmt::join(atlas.features.columns(), ", "));
  std::vector<std::string> files{"features.csv"};
  const auto also = [&](const char* file) {
    if (source.has(file)) files.emplace_back(file);
  };
  if (const auto steps = source.tables.find("steps.csv"); steps != source.tables.end()) {
    for (const double step : steps->second.numbers("step"))
      atlas.steps.push_back(std::llround(step));
    const std::size_t num_features = atlas.features.num_rows();
    atlas.norms = curves(source, "decoder_norms.npy", atlas.steps.size(), num_features);
    atlas.rates = curves(source, "rates.npy", atlas.steps.size(), num_features);
    also("decoder_norms.npy");
    also("rates.npy");
  }
  const Rows rows(atlas.features);
  Vocabulary vocabulary(atlas.vocabulary);
  std::size_t num_cut = 0;
  atlas.promoted = token_lists(source, "promoted_tokens.csv", rows, vocabulary, num_cut);
  atlas.suppressed = token_lists(source, "suppressed_tokens.csv", rows, vocabulary, num_cut);
  atlas.neighbours = neighbours(source, rows);
  for (const char* file : {"promoted_tokens.csv", "suppressed_tokens.csv", "neighbours.csv"})
    also(file);
  atlas.caption = fmt::format("From {} of {}.", fmt::join(files, ", "), source.name);
  if (num_cut > 0)
    atlas.caption += fmt::format(" Of each list of tokens the first {} are here.", kMostTokens);
  return atlas;
}

}  // namespace

std::optional<Section> build_atlas(const Sources& sources) {
  const auto found = sources_with(sources, "features.csv");
  if (found.empty()) return std::nullopt;
  Section section{
      .id = "features-section",
      .title = "Feature atlas",
      .text =
          "Every feature of the dictionary: when it formed, how often it fires, which tokens its "
          "decoder row raises and lowers, and which features are like it. A token in grey scores "
          "no "
          "higher (or lower) than a random direction of the same length would."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    FeatureAtlas atlas = atlas_of(*found[i]);
    atlas.id = figure_id("features", i);
    atlas.title =
        title_of(fmt::format("All {} features", whole_number(double(atlas.features.num_rows()))),
                 *found[i], found.size());
    section.blocks.emplace_back(std::move(atlas));
  }
  return section;
}

}  // namespace cresco::report
