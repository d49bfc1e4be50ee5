// Feature cards travel as one block of JSON and are built by the page's script, a page at a time,
// so that tens of thousands of them cost nothing until they are looked at.
#include "cresco/report/html/blocks.h"

#include "cresco/report/escape.h"
#include "cresco/report/numbers.h"
#include "cresco/report/png.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace cresco::report::html {
namespace {

constexpr std::size_t kRowsWithoutScripts = 40;

template <class Number>
std::string packed(const std::vector<Number>& values) {
  // The page's script reads little-endian numbers, as every processor that this runs on writes
  // them.
  return base64({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Number)});
}

// Columns of numbers the cards show or sort by, those that the table has.
constexpr const char* kNumbers[] = {"feature",    "alive",     "born_step",  "died_step",
                                    "peak_step",  "peak_norm", "final_norm", "peak_rate",
                                    "final_rate", "lifetime",  "drift",      "first_active_step"};

struct Curves {
  std::vector<float> largest;         // per feature
  std::vector<std::uint16_t> shares;  // per feature and step, in 65535ths of the largest
};

Curves curves_of(const std::vector<float>& values_by_step, std::size_t num_steps) {
  Curves curves;
  if (num_steps == 0 || values_by_step.empty()) return curves;
  const std::size_t num_features = values_by_step.size() / num_steps;
  for (std::size_t f = 0; f < num_features; ++f) {
    const auto value = [&](std::size_t k) {
      const float v = values_by_step[k * num_features + f];
      return std::isfinite(v) ? std::max(v, 0.0f) : 0.0f;
    };
    float largest = 0;
    for (std::size_t k = 0; k < num_steps; ++k) largest = std::max(largest, value(k));
    curves.largest.push_back(largest);
    for (std::size_t k = 0; k < num_steps; ++k)
      curves.shares.push_back(
          static_cast<std::uint16_t>(largest > 0 ? std::lround(65535.0 * value(k) / largest) : 0));
  }
  return curves;
}

Json curves_json(const std::vector<float>& values, std::size_t num_steps) {
  const Curves curves = curves_of(values, num_steps);
  if (curves.largest.empty()) return nullptr;
  return {{"largest", packed(curves.largest)}, {"shares", packed(curves.shares)}};
}

// In units of the largest: kNone stands for what is not a number.
constexpr std::int16_t kNone = -32768;

std::int16_t quantized(double value, double unit) {
  if (!std::isfinite(value) || unit <= 0) return kNone;
  return static_cast<std::int16_t>(std::lround(std::clamp(value / unit, -32767.0, 32767.0)));
}

double score_unit(const std::vector<PromotedToken>& promoted) {
  double largest = 0;
  for (const PromotedToken& token : promoted)
    for (const double value : {token.score, token.floor})
      if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  return largest / 32767;
}

// Nine bytes per promoted token, in order of features. `counts` says how many each of `features`
// has, `slots` at which of `steps` each was taken; `vocabulary` holds each text once.
Json promoted_json(const std::vector<PromotedToken>& promoted) {
  std::map<std::string, std::uint32_t> index;
  std::vector<std::string> vocabulary;
  std::vector<std::int64_t> steps;
  std::vector<std::uint32_t> features, counts, tokens;
  std::vector<std::uint8_t> slots;
  std::vector<std::int16_t> scores, floors;
  const double unit = score_unit(promoted);
  for (const PromotedToken& token : promoted) {
    if (token.feature < 0 || token.feature > UINT32_MAX) continue;
    const auto feature = static_cast<std::uint32_t>(token.feature);
    if (features.empty() || features.back() != feature) {
      features.push_back(feature);
      counts.push_back(0);
    }
    ++counts.back();
    auto step = std::find(steps.begin(), steps.end(), token.step);
    if (step == steps.end()) step = steps.insert(steps.end(), token.step);
    slots.push_back(static_cast<std::uint8_t>(step - steps.begin()));
    const auto [entry, is_new] = index.try_emplace(visible_text(token.token), index.size());
    if (is_new) vocabulary.push_back(entry->first);
    tokens.push_back(entry->second);
    scores.push_back(quantized(token.score, unit));
    floors.push_back(quantized(token.floor, unit));
  }
  return {{"vocabulary", vocabulary},     {"steps", steps},           {"unit", unit},
          {"features", packed(features)}, {"counts", packed(counts)}, {"slots", packed(slots)},
          {"tokens", packed(tokens)},     {"scores", packed(scores)}, {"floors", packed(floors)}};
}

Json cards_json(const FeatureCards& cards) {
  Json columns = Json::object();
  for (const char* column : kNumbers)
    if (cards.features.has(column)) columns[column] = cards.features.numbers(column);
  Json profiles = Json::array();
  if (cards.features.has("profile"))
    for (const std::string& profile : cards.features.texts("profile"))
      profiles.push_back(visible_text(profile));
  return {{"steps", cards.steps},
          {"columns", std::move(columns)},
          {"profiles", std::move(profiles)},
          {"norms", curves_json(cards.norms, cards.steps.size())},
          {"rates", curves_json(cards.rates, cards.steps.size())},
          {"promoted", promoted_json(cards.promoted)}};
}

// What stands there when scripts are off: the features with the largest final norm.
void write_plain_table(Markup& out, const FeatureCards& cards) {
  std::vector<std::size_t> order(cards.features.num_rows());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (cards.features.has("final_norm")) {
    std::vector<double> norms = cards.features.numbers("final_norm");
    for (double& norm : norms)
      if (!std::isfinite(norm)) norm = -1;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return norms[a] > norms[b]; });
  }
  artifacts::Table shown(cards.features.columns());
  for (std::size_t i = 0; i < std::min(order.size(), kRowsWithoutScripts); ++i)
    shown.add_row(cards.features.row(order[i]));
  out.open("noscript");
  out.element(
      "p", {{"class", "note"}},
      fmt::format("The {} features with the largest final norm, of {}. With scripts on, all of "
                  "them can be searched here.",
                  shown.num_rows(), cards.features.num_rows()));
  write_table(out, shown);
  out.close();
}

void write_option(Markup& out, const char* value, const char* text) {
  out.element("option", {{"value", value}}, text);
}

void write_controls(Markup& out, const FeatureCards& cards) {
  out.open("div", {{"class", "controls"}, {"hidden", ""}});
  out.open("label").element("span", "Search");
  out.leaf("input", {{"type", "search"},
                     {"class", "search"},
                     {"placeholder", "a token or a feature's number"},
                     {"autocomplete", "off"},
                     {"spellcheck", "false"}});
  out.close();
  out.open("label").element("span", "Sort by").open("select", {{"class", "sort"}});
  write_option(out, "-final_norm", "final norm, largest first");
  write_option(out, "-final_rate", "final rate, highest first");
  write_option(out, "-peak_rate", "peak rate, highest first");
  write_option(out, "peak_step", "peak step, earliest first");
  write_option(out, "-peak_step", "peak step, latest first");
  write_option(out, "born_step", "birth, earliest first");
  write_option(out, "-born_step", "birth, latest first");
  write_option(out, "feature", "number");
  out.close().close();
  out.open("label", {{"class", "check"}});
  out.leaf("input", {{"type", "checkbox"}, {"class", "alive-only"}});
  out.element("span", "alive only").close();
  out.element("p", {{"class", "count"}, {"role", "status"}},
              fmt::format("{} features", whole_number(double(cards.features.num_rows()))));
  out.close().line_end();
}

}  // namespace

void write(Markup& out, const FeatureCards& cards) {
  out.open("figure", {{"id", "figure-" + cards.id},
                      {"class", "features"},
                      {"data-figure", cards.id},
                      {"data-source", cards.source},
                      {"data-rows", cards.features.num_rows()}});
  write_controls(out, cards);
  out.element("div", {{"class", "cards"}}, "").line_end();
  out.element("button", {{"type", "button"}, {"class", "more"}, {"hidden", ""}}, "Show more")
      .line_end();
  write_plain_table(out, cards);
  write_json(out, cards_json(cards));
  out.close().line_end();
}

}  // namespace cresco::report::html
