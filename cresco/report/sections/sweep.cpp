// A sweep: what its members trade of explained variance for sparsity.
#include "cresco/report/sections/build.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace cresco::report {
namespace {

constexpr const char* kExplained = "explained_variance_pooled";

// What the members differ in: the columns between their names and what was measured.
std::vector<std::string> swept_keys(const artifacts::Table& sweep) {
  std::vector<std::string> keys;
  for (const std::string& column : sweep.columns()) {
    if (column == kExplained) break;
    if (column != "member") keys.push_back(column);
  }
  return keys;
}

std::vector<std::string> measured(const artifacts::Table& sweep) {
  const std::vector<std::string>& columns = sweep.columns();
  std::vector<std::string> names(std::find(columns.begin(), columns.end(), kExplained),
                                 columns.end());
  std::erase(names, "folder");
  return names;
}

// The rows that no other beats: in order of l0, each explains more than all before it.
std::vector<std::size_t> front_of(const artifacts::Table& sweep) {
  const std::vector<double> l0 = sweep.numbers("l0"), explained = sweep.numbers(kExplained);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < l0.size(); ++i)
    if (std::isfinite(l0[i]) && std::isfinite(explained[i])) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::make_pair(l0[a], -explained[a]) < std::make_pair(l0[b], -explained[b]);
  });
  std::vector<std::size_t> front;
  for (const std::size_t i : order)
    if (front.empty() || explained[i] > explained[front.back()]) front.push_back(i);
  return front;
}

// The keys that are more than repetitions: all but the seed, unless there is no other.
std::vector<std::string> telling_keys(std::vector<std::string> keys) {
  if (keys.size() > 1) std::erase(keys, "seed");
  return keys;
}

// The key whose values become colours: of several keys the one with the fewest values, up to six.
std::string color_key(const artifacts::Table& sweep, const std::vector<std::string>& keys) {
  std::string best;
  std::size_t fewest = 7;
  for (const std::string& key : keys) {
    std::vector<std::string> values = sweep.texts(key);
    std::sort(values.begin(), values.end());
    const auto count =
        static_cast<std::size_t>(std::unique(values.begin(), values.end()) - values.begin());
    if (keys.size() > 1 && count > 1 && count < fewest) {
      best = key;
      fewest = count;
    }
  }
  return best;
}

// What tells a member from the others of its colour: "l1_coefficient 0.3".
std::string name_beside(const artifacts::Table& sweep, std::size_t row,
                        const std::vector<std::string>& keys, const std::string& color) {
  std::string name;
  for (const std::string& key : keys)
    if (key != color)
      name += fmt::format("{}{} {}", name.empty() ? "" : ", ", key, sweep.text(row, key));
  return name;
}

Series front_line(const artifacts::Table& sweep, const std::vector<std::size_t>& front) {
  Series line{.name = "front: the most explained at this l0 or below",
              .source = "sweep.csv",
              .marks = false,
              .dashed = true};
  for (const std::size_t i : front) {
    const double l0 = sweep.number(i, "l0"), explained = sweep.number(i, kExplained);
    if (!line.x.empty()) {  // level up to the next member, then up
      line.x.push_back(l0);
      line.y.push_back(line.y.back());
    }
    line.x.push_back(l0);
    line.y.push_back(explained);
  }
  return line;
}

Chart trade_off(const Source& source, const std::vector<std::size_t>& front, const std::string& id,
                const std::string& title) {
  const artifacts::Table& sweep = source.tables.at("sweep.csv");
  const std::vector<std::string> keys = telling_keys(swept_keys(sweep));
  const std::string key = color_key(sweep, keys);
  Chart chart{.id = id,
              .title = title,
              .source = "sweep.csv",
              .x = {"l0 (active features per row and snapshot)", Scale::Log},
              .y = {"explained variance, pooled"},
              .linear_toggle = true,
              .data = sweep};
  std::vector<std::string> values;
  std::size_t without = 0;
  for (std::size_t i = 0; i < sweep.num_rows(); ++i) {
    const double l0 = sweep.number(i, "l0"), explained = sweep.number(i, kExplained);
    if (!std::isfinite(l0) || !std::isfinite(explained)) {
      ++without;
      continue;
    }
    const std::string value = key.empty() ? "members of the sweep" : sweep.text(i, key);
    auto at = std::find(values.begin(), values.end(), value);
    if (at == values.end()) {
      chart.series.push_back({.name = key.empty() ? value : fmt::format("{} {}", key, value),
                              .source = "sweep.csv",
                              .line = false});
      at = values.insert(values.end(), value);
    }
    Series& series = chart.series[static_cast<std::size_t>(at - values.begin())];
    series.x.push_back(l0);
    series.y.push_back(explained);
    series.labels.push_back(sweep.text(i, "member"));
    series.names.push_back(name_beside(sweep, i, keys, key));
  }
  chart.series.push_back(front_line(sweep, front));
  chart.caption = fmt::format(
      "Each mark is a member, from {}. Up and to the left is better; no member is above the line.",
      from_files("sweep.csv", {&source}));
  if (without > 0)
    chart.caption += fmt::format(" {} of {} members have no numbers.", without, sweep.num_rows());
  return chart;
}

// The members, those of the front marked, the most explained first.
DataTable members(const Source& source, const std::vector<std::size_t>& front,
                  const std::string& id, const std::string& title) {
  const artifacts::Table& sweep = source.tables.at("sweep.csv");
  const std::vector<std::string> keys = swept_keys(sweep), numbers = measured(sweep);
  std::vector<std::string> columns{"member"};
  columns.insert(columns.end(), keys.begin(), keys.end());
  columns.insert(columns.end(), numbers.begin(), numbers.end());
  columns.emplace_back("front");

  std::vector<std::size_t> order(sweep.num_rows());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const std::vector<double> explained = sweep.numbers(kExplained);
  const auto rank = [&](std::size_t i) { return std::isfinite(explained[i]) ? -explained[i] : 2; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
  artifacts::Table table(columns);
  for (const std::size_t i : order) {
    std::vector<std::string> row{sweep.text(i, "member")};
    for (const std::string& key : keys) row.push_back(sweep.text(i, key));
    for (const std::string& column : numbers) row.push_back(short_number(sweep.number(i, column)));
    row.emplace_back(std::find(front.begin(), front.end(), i) != front.end() ? "yes" : "");
    table.add_row(std::move(row));
  }
  return {.id = id,
          .title = title,
          .source = "sweep.csv",
          .caption =
              "The most explained first. Metric ids and their formulas stand in docs/metrics.md.",
          .table = std::move(table),
          .half = false};
}

}  // namespace

std::optional<Section> build_sweep(const Sources& sources) {
  std::vector<const Source*> found = sources_with(sources, "sweep.csv");
  std::erase_if(found, [](const Source* source) {
    const artifacts::Table& sweep = source->tables.at("sweep.csv");
    return !sweep.has("member") || !sweep.has("l0") || !sweep.has(kExplained);
  });
  if (found.empty()) return std::nullopt;
  Section section{.id = "sweep-section",
                  .title = "Sweep",
                  .text =
                      "Dictionaries that differ in a few settings: how much each explains, and how "
                      "many features it takes for that."};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::vector<std::size_t> front = front_of(found[i]->tables.at("sweep.csv"));
    section.blocks.emplace_back(
        trade_off(*found[i], front, figure_id("sweep", i),
                  title_of("Explained variance against sparsity", *found[i], found.size())));
    section.blocks.emplace_back(members(*found[i], front, figure_id("sweep_members", i),
                                        title_of("Members", *found[i], found.size())));
  }
  return section;
}

}  // namespace cresco::report
