#include "cresco/report/render.h"

#include "cresco/report/describe.h"
#include "cresco/report/escape.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>

namespace cresco::report {
namespace {

constexpr std::size_t kMostRows = 12, kMostPassages = 12, kWidestCell = 60;

std::string shown(std::string_view bytes, std::size_t most = kWidestCell) {
  return shortened(bytes, most);
}

void add_table(std::string& out, const artifacts::Table& table) {
  const std::size_t num_rows = std::min(table.num_rows(), kMostRows);
  std::vector<std::vector<std::string>> rows(num_rows + 1);
  for (const std::string& column : table.columns()) rows[0].push_back(shown(column));
  for (std::size_t i = 0; i < num_rows; ++i)
    for (const std::string& cell : table.row(i)) rows[i + 1].push_back(shown(cell));
  std::vector<std::size_t> widths(table.columns().size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], num_characters(row[i]));
  for (const auto& row : rows) {
    std::string line = "   ";
    for (std::size_t i = 0; i < row.size(); ++i)
      line += " " + row[i] + std::string(widths[i] - num_characters(row[i]) + 1, ' ');
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  if (table.num_rows() > num_rows)
    out += fmt::format("    ... {} more\n", table.num_rows() - num_rows);
}

void add(std::string& out, const Facts& facts) {
  for (const Fact& fact : facts.facts)
    out += fmt::format("  {:<20} {:>12}  {}\n", shown(fact.label), shown(fact.value),
                       shown(fact.note));
}

void add(std::string& out, const Chart& chart) {
  out += fmt::format("  [{}] {}: {} against {} ({})\n", chart.id, shown(chart.title),
                     shown(chart.y.label), shown(chart.x.label), chart.source);
  constexpr std::size_t kMostSeries = 8;
  for (std::size_t i = 0; i < chart.series.size(); ++i)
    if (chart.series.size() <= kMostSeries || i == 0 || i + 1 == chart.series.size())
      out += "    " + shown(describe(chart.series[i]), 120) + "\n";
  if (chart.series.size() > kMostSeries)
    out += fmt::format("    ({} curves in all)\n", chart.series.size());
  for (const Level& level : chart.levels) out += "    line: " + shown(level.label) + "\n";
  if (!chart.stops.empty())
    out += fmt::format("    {} thin lines: {}\n", chart.stops.size(), chart.stops_label);
}

void add(std::string& out, const HeatMap& map) {
  out += fmt::format("  [{}] {} ({})\n", map.id, shown(describe(map), 400), map.source);
}

void add(std::string& out, const DataTable& table) {
  out += fmt::format("  [{}] {} ({})\n", table.id, shown(table.title), table.source);
  add_table(out, table.table);
}

void add(std::string& out, const Passages& passages) {
  out += fmt::format("  [{}] {} ({})\n", passages.id, shown(passages.title), passages.source);
  for (std::size_t i = 0; i < std::min(passages.passages.size(), kMostPassages); ++i) {
    const Passage& passage = passages.passages[i];
    out += fmt::format("    step {}: {} |{}\n", passage.step, shown(passage.prompt),
                       shown(passage.continuation, 80));
  }
  if (passages.passages.size() > kMostPassages)
    out += fmt::format("    ... {} more\n", passages.passages.size() - kMostPassages);
}

void add_lists(std::string& out, const FeatureAtlas& atlas, const char* verb,
               const std::vector<TokenList>& lists) {
  constexpr std::size_t kMostLists = 6;
  const std::vector<double> ids =
      lists.empty() ? std::vector<double>{} : atlas.features.numbers("feature");
  for (std::size_t i = 0; i < std::min(lists.size(), kMostLists); ++i) {
    std::string tokens;
    for (const ScoredToken& token : lists[i].tokens)
      tokens += fmt::format(" |{} {:.2f}", shown(atlas.vocabulary[token.token], 20), token.score);
    out += fmt::format("    feature {} at step {} {} (chance {:.2f}){}\n", ids[lists[i].row],
                       lists[i].step, verb, lists[i].floor, tokens);
  }
  if (lists.size() > kMostLists)
    out += fmt::format("    ... {} more lists\n", lists.size() - kMostLists);
}

void add(std::string& out, const FeatureAtlas& atlas) {
  out += fmt::format("  [{}] {} features, {} tokens, {} neighbours ({})\n", atlas.id,
                     atlas.features.num_rows(), atlas.vocabulary.size(), atlas.neighbours.size(),
                     atlas.source);
  add_lists(out, atlas, "promotes", atlas.promoted);
  add_lists(out, atlas, "suppresses", atlas.suppressed);
  if (!atlas.neighbours.empty()) {
    const std::vector<double> ids = atlas.features.numbers("feature");
    const Neighbour& first = atlas.neighbours[0];
    out += fmt::format("    nearest to feature {}: feature {}, cosine {:.3f}\n", ids[first.row],
                       ids[first.neighbour], first.cosine);
  }
}

void add(std::string& out, const Provenance& provenance) {
  for (const Origin& origin : provenance.origins) {
    const auto text = [&](const char* key) {
      return origin.manifest.contains(key) && origin.manifest[key].is_string()
                 ? origin.manifest[key].get<std::string>()
                 : std::string("?");
    };
    out += fmt::format("  made by {} {} at {}: {}\n", shown(text("verb")), shown(text("version")),
                       shown(text("written")), shown(origin.name));
  }
}

}  // namespace

std::string render_text(const Report& report) {
  std::string out = shown(report.title, 200) + "\n" + shown(report.subtitle, 200) + "\n";
  for (const Section& section : report.sections) {
    out += "\n" + shown(section.title) + "\n" +
           std::string(num_characters(shown(section.title)), '-') + "\n";
    for (const Block& block : section.blocks)
      std::visit([&](const auto& one) { add(out, one); }, block);
  }
  if (!report.absent.empty())
    out += fmt::format("\nNot in this report: {}.\n", fmt::join(report.absent, "; "));
  return out;
}

}  // namespace cresco::report
