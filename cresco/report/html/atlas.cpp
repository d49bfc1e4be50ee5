// The feature atlas: its numbers travel as packs that the page's script decodes when the atlas is
// looked at, and of its rows only those that are in sight are elements, so that tens of thousands
// of features cost a few hundred bytes each and nothing else.
#include "cresco/report/html/blocks.h"

#include "cresco/base/json.h"
#include "cresco/report/escape.h"
#include "cresco/report/html/pack.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report::html {
namespace {

constexpr std::size_t kRowsWithoutScripts = 40;

struct Column {
  const char* name;
  const char* label;
  bool is_step;
  const char* unit = "";     // behind the number
  const char* meaning = "";  // said over the label, where the label does not say it
};

// The columns of features.csv that the cards show, and the list sorts and filters by.
constexpr Column kColumns[] = {
    {"alive", "alive", false},
    {"born_step", "born", true, "", "the first snapshot whose decoder norm is half of the largest"},
    {"peak_step", "peak", true, "", "where the decoder norm is largest"},
    {"died_step", "died", true, "", "the last snapshot whose decoder norm is half of the largest"},
    {"first_active_step", "first active", true, "",
     "the first of two snapshots in a row at which it is active"},
    {"stabilized_step", "stabilized", true, "",
     "from here on rate and direction stay near to those of the end"},
    {"peak_rate_step", "rate peaks", true, "", "where the firing rate is highest"},
    {"peak_norm", "peak norm", false},
    {"final_norm", "final norm", false},
    {"peak_rate", "peak rate", false, " of rows"},
    {"final_rate", "final rate", false, " of rows"},
    {"lifetime", "lifetime", false, " of snapshots",
     "the share of snapshots at which it is active"},
    {"drift", "drift", false, "", "mean of 1 − cosine of neighbouring decoder rows"}};

// Values by step as values by row, each in 65535ths of its row's largest.
void add_curves(Markup& out, const char* name, const std::vector<float>& values,
                std::size_t num_steps) {
  if (num_steps == 0 || values.empty()) return;
  const std::size_t num_rows = values.size() / num_steps;
  std::vector<float> largest;
  std::vector<std::uint16_t> shares;
  for (std::size_t row = 0; row < num_rows; ++row) {
    const auto value = [&](std::size_t k) {
      const float v = values[k * num_rows + row];
      return std::isfinite(v) ? std::max(v, 0.0f) : 0.0f;
    };
    float most = 0;
    for (std::size_t k = 0; k < num_steps; ++k) most = std::max(most, value(k));
    largest.push_back(most);
    for (std::size_t k = 0; k < num_steps; ++k)
      shares.push_back(
          static_cast<std::uint16_t>(most > 0 ? std::lround(65535.0 * value(k) / most) : 0));
  }
  Pack pack;
  pack.add("largest", largest);
  pack.add("shares", shares);
  pack.write(out, name);
}

std::vector<std::string> profiles_of(const FeatureAtlas& atlas) {
  std::vector<std::string> names;
  if (!atlas.features.has("profile")) return names;
  for (const std::string& name : atlas.features.texts("profile"))
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

void add_columns(Markup& out, const FeatureAtlas& atlas) {
  Pack pack;
  std::vector<std::uint32_t> ids;
  for (const double id : atlas.features.numbers("feature"))
    ids.push_back(id >= 0 && id < 4294967295.0 ? static_cast<std::uint32_t>(id) : 0xffffffff);
  pack.add("feature", ids);
  for (const Column& column : kColumns) {
    if (!atlas.features.has(column.name)) continue;
    const std::vector<double> numbers = atlas.features.numbers(column.name);
    pack.add(column.name, std::vector<float>(numbers.begin(), numbers.end()));
  }
  if (const std::vector<std::string> names = profiles_of(atlas); !names.empty()) {
    std::vector<std::uint16_t> profiles;  // 0: none
    for (const std::string& name : atlas.features.texts("profile")) {
      const auto found = std::find(names.begin(), names.end(), name);
      profiles.push_back(
          found == names.end() ? 0 : static_cast<std::uint16_t>(1 + (found - names.begin())));
    }
    pack.add("profile", profiles);
  }
  pack.write(out, "columns");
}

// Scores in 32767ths of the list's largest by size; the smallest number stands for what is none.
std::int16_t share_of(float score, float largest) {
  if (!std::isfinite(score)) return -32768;
  return static_cast<std::int16_t>(largest > 0 ? std::lround(32767.0 * score / largest) : 0);
}

// How many of the list are beyond what chance reaches; all of them when that is not known.
std::uint8_t num_beyond(const TokenList& list) {
  if (std::isnan(list.floor)) return static_cast<std::uint8_t>(list.tokens.size());
  return static_cast<std::uint8_t>(
      std::count_if(list.tokens.begin(), list.tokens.end(), [&](const ScoredToken& token) {
        return list.floor < 0 ? token.score < list.floor : token.score > list.floor;
      }));
}

void add_lists(Markup& out, const char* name, const std::vector<TokenList>& lists,
               const std::vector<std::int64_t>& token_steps, std::size_t num_rows) {
  if (lists.empty()) return;
  std::vector<std::uint8_t> lists_of_row(num_rows), lengths, beyond;
  std::vector<std::uint16_t> steps;
  std::vector<float> largest, floors;
  std::vector<std::uint32_t> tokens;
  std::vector<std::int16_t> shares;
  for (const TokenList& list : lists) {
    ++lists_of_row[list.row];
    lengths.push_back(static_cast<std::uint8_t>(list.tokens.size()));
    beyond.push_back(num_beyond(list));
    steps.push_back(static_cast<std::uint16_t>(
        std::lower_bound(token_steps.begin(), token_steps.end(), list.step) - token_steps.begin()));
    floors.push_back(list.floor);
    float most = 0;
    for (const ScoredToken& token : list.tokens)
      if (std::isfinite(token.score)) most = std::max(most, std::abs(token.score));
    largest.push_back(most);
    for (const ScoredToken& token : list.tokens) {
      tokens.push_back(token.token);
      shares.push_back(share_of(token.score, most));
    }
  }
  Pack pack;
  pack.add("lists", lists_of_row);
  pack.add("lengths", lengths);
  pack.add("beyond", beyond);
  pack.add("steps", steps);
  pack.add("largest", largest);
  pack.add("floors", floors);
  pack.add("tokens", tokens);
  pack.add("shares", shares);
  pack.write(out, name);
}

void add_vocabulary(Markup& out, const FeatureAtlas& atlas) {
  if (atlas.vocabulary.empty()) return;
  std::string texts;  // visible_text has no line ends
  for (const std::string& token : atlas.vocabulary) texts += visible_text(token) + '\n';
  Pack pack;
  pack.add_text("texts", texts);
  pack.write(out, "vocabulary");
}

void add_neighbours(Markup& out, const FeatureAtlas& atlas) {
  if (atlas.neighbours.empty()) return;
  std::vector<std::uint16_t> counts(atlas.features.num_rows());
  std::vector<std::uint32_t> rows;
  std::vector<std::int16_t> cosines;
  for (const Neighbour& neighbour : atlas.neighbours) {
    if (counts[neighbour.row] == 0xffff) continue;
    ++counts[neighbour.row];
    rows.push_back(neighbour.neighbour);
    cosines.push_back(
        static_cast<std::int16_t>(std::lround(32767 * std::clamp(neighbour.cosine, -1.f, 1.f))));
  }
  Pack pack;
  pack.add("counts", counts);
  pack.add("rows", rows);
  pack.add("cosines", cosines);
  pack.write(out, "neighbours");
}

// The steps at which some list was made, in order.
std::vector<std::int64_t> token_steps_of(const FeatureAtlas& atlas) {
  std::vector<std::int64_t> steps;
  for (const auto* lists : {&atlas.promoted, &atlas.suppressed})
    for (const TokenList& list : *lists) {
      const auto at = std::lower_bound(steps.begin(), steps.end(), list.step);
      if (at == steps.end() || *at != list.step) steps.insert(at, list.step);
    }
  return steps;
}

Json columns_json(const FeatureAtlas& atlas) {
  Json columns = Json::array();
  for (const Column& column : kColumns)
    if (atlas.features.has(column.name))
      columns.push_back({{"name", column.name},
                         {"label", column.label},
                         {"is_step", column.is_step},
                         {"unit", column.unit},
                         {"meaning", column.meaning}});
  return columns;
}

// What stands there when scripts are off: the features with the largest final norm.
void write_plain_table(Markup& out, const FeatureAtlas& atlas) {
  std::vector<std::size_t> order(atlas.features.num_rows());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (atlas.features.has("final_norm")) {
    std::vector<double> norms = atlas.features.numbers("final_norm");
    for (double& norm : norms)
      if (!std::isfinite(norm)) norm = -1;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return norms[a] > norms[b]; });
  }
  artifacts::Table shown(atlas.features.columns());
  for (std::size_t i = 0; i < std::min(order.size(), kRowsWithoutScripts); ++i)
    shown.add_row(atlas.features.row(order[i]));
  out.open("noscript");
  out.element(
      "p", {{"class", "note"}},
      fmt::format("The {} features with the largest final norm, of {}. With scripts on, all of "
                  "them can be searched here.",
                  shown.num_rows(), atlas.features.num_rows()));
  write_table(out, shown);
  out.close();
}

void open_field(Markup& out, const char* label) { out.open("label").element("span", label); }

void write_option(Markup& out, std::string_view value, const std::string& text) {
  out.element("option", {{"value", value}}, text);
}

void write_sort(Markup& out, const FeatureAtlas& atlas) {
  open_field(out, "Sort by");
  out.open("select", {{"class", "sort"}});
  const auto offer = [&](const char* value, const char* text) {
    const std::string_view column = *value == '-' ? value + 1 : value;
    if (atlas.features.has(column)) write_option(out, value, text);
  };
  offer("-final_norm", "final norm, largest first");
  offer("-peak_norm", "peak norm, largest first");
  offer("-final_rate", "final rate, highest first");
  offer("-peak_rate", "peak rate, highest first");
  offer("born_step", "birth, earliest first");
  offer("-born_step", "birth, latest first");
  offer("peak_step", "peak step, earliest first");
  offer("-peak_step", "peak step, latest first");
  offer("died_step", "death, earliest first");
  offer("-died_step", "death, latest first");
  offer("-lifetime", "lifetime, longest first");
  offer("-drift", "drift, largest first");
  if (!atlas.promoted.empty()) write_option(out, "-match", "score of the searched token");
  write_option(out, "feature", "number");
  out.close().close();
}

void write_range(Markup& out, const FeatureAtlas& atlas, bool steps, const char* label) {
  const auto is_offered = [&](const Column& column) {
    return column.is_step == steps && std::string_view(column.name) != "alive" &&
           atlas.features.has(column.name);
  };
  if (std::none_of(std::begin(kColumns), std::end(kColumns), is_offered)) return;
  out.open("div", {{"class", "range"}, {"role", "group"}, {"aria-label", label}});
  out.open("select", {{"aria-label", label}});
  for (const Column& column : kColumns)
    if (is_offered(column)) write_option(out, column.name, column.label);
  out.close();
  for (const char* end : {"from", "to"}) {
    out.element("span", end);
    out.leaf("input", {{"type", "text"},
                       {"inputmode", "decimal"},
                       {"class", end},
                       {"aria-label", fmt::format("{}, {}", label, end)},
                       {"autocomplete", "off"}});
  }
  out.close();
}

void write_controls(Markup& out, const FeatureAtlas& atlas) {
  out.open("div", {{"class", "controls"}, {"hidden", ""}});
  open_field(out, "Search");
  out.leaf("input", {{"type", "search"},
                     {"class", "search"},
                     {"placeholder", "token, \"exact token\" or number"},
                     {"autocomplete", "off"},
                     {"autocapitalize", "off"},
                     {"spellcheck", "false"}});
  out.close();
  if (!atlas.suppressed.empty()) {
    open_field(out, "among tokens");
    out.open("select", {{"class", "side"}});
    write_option(out, "promoted", "promoted");
    write_option(out, "suppressed", "suppressed");
    write_option(out, "both", "either");
    out.close().close();
  }
  write_sort(out, atlas);
  if (const std::vector<std::string> profiles = profiles_of(atlas); !profiles.empty()) {
    open_field(out, "Profile");
    out.open("select", {{"class", "profile"}});
    write_option(out, "", "any");
    for (std::size_t i = 0; i < profiles.size(); ++i)
      write_option(out, std::to_string(i + 1), profiles[i]);
    out.close().close();
  }
  if (atlas.features.has("alive")) {
    out.open("label", {{"class", "check"}});
    out.leaf("input", {{"type", "checkbox"}, {"class", "alive-only"}});
    out.element("span", "alive only").close();
  }
  out.open("fieldset", {{"class", "ranges"}});
  out.element("legend", "Only those with");
  write_range(out, atlas, true, "a step");
  write_range(out, atlas, false, "a number");
  out.close().close().line_end();
}

}  // namespace

void write(Markup& out, const FeatureAtlas& atlas) {
  const std::size_t num_rows = atlas.features.num_rows();
  // "features", "features-2": links to their features are #feature-7, #feature2-7.
  std::string link = "feature";
  if (atlas.id.starts_with("features-")) link += atlas.id.substr(9);
  out.open("figure", {{"id", "figure-" + atlas.id},
                      {"class", "atlas"},
                      {"data-figure", atlas.id},
                      {"data-source", atlas.source},
                      {"data-link", link},
                      {"data-rows", num_rows}});
  write_caption(out, atlas.title, atlas.caption);
  write_controls(out, atlas);
  out.element("p", {{"class", "count"}, {"role", "status"}},
              fmt::format("{} features", whole_number(double(num_rows))))
      .line_end();
  out.open("div", {{"class", "panes"}, {"hidden", ""}});
  out.element(
      "div",
      {{"class", "list"},
       {"role", "listbox"},
       {"tabindex", "0"},
       {"aria-label",
        "Features; the arrow keys open them, Enter goes to the card, Escape to the search"}},
      "");
  out.open("article", {{"class", "card"}, {"tabindex", "-1"}})
      .element("p", {{"class", "note"}}, "Open a feature of the list to see it here.")
      .close()
      .close()
      .line_end();
  write_plain_table(out, atlas);
  if (atlas.features.has("feature")) {
    const std::vector<std::int64_t> token_steps = token_steps_of(atlas);
    Json profiles = Json::array();
    for (const std::string& name : profiles_of(atlas)) profiles.push_back(visible_text(name));
    write_json(out, {{"steps", atlas.steps},
                     {"token_steps", token_steps},
                     {"profiles", std::move(profiles)},
                     {"columns", columns_json(atlas)}});
    add_columns(out, atlas);
    add_curves(out, "norms", atlas.norms, atlas.steps.size());
    add_curves(out, "rates", atlas.rates, atlas.steps.size());
    add_vocabulary(out, atlas);
    add_lists(out, "promoted", atlas.promoted, token_steps, num_rows);
    add_lists(out, "suppressed", atlas.suppressed, token_steps, num_rows);
    add_neighbours(out, atlas);
  }
  out.close().line_end();
}

}  // namespace cresco::report::html
