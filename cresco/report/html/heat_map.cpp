// A heat map is a small PNG inside an SVG with axes: it shows and prints without scripts, at the
// cost of one element for any number of cells. The values go along as bytes, for hovering.
#include "cresco/report/html/blocks.h"

#include "cresco/report/color.h"
#include "cresco/report/compact.h"
#include "cresco/report/describe.h"
#include "cresco/report/escape.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report::html {
namespace {

constexpr double kLeft = 64, kTop = 8, kBottom = 28, kRight = 10;
// More rows than this are averaged in the picture; every one of them can be hovered over.
constexpr std::size_t kMostPictureRows = 520;

std::uint8_t byte_of(double share) {
  return static_cast<std::uint8_t>(std::lround(255 * std::clamp(share, 0.0, 1.0)));
}

std::string picture(const HeatMap& map) {
  const std::size_t columns = map.steps.size(), rows = map.rows.size();
  const std::size_t height = std::min(rows, kMostPictureRows);
  std::vector<std::uint8_t> pixels;
  for (std::size_t y = 0; y < height; ++y) {
    const std::size_t first = y * rows / height, last = (y + 1) * rows / height;
    for (std::size_t column = 0; column < columns; ++column) {
      double sum = 0;
      for (std::size_t row = first; row < last; ++row) sum += map.values[row * columns + column];
      pixels.push_back(byte_of(sum / double(last - first)));
    }
  }
  return "data:image/png;base64," +
         base64(png(static_cast<std::uint32_t>(columns), static_cast<std::uint32_t>(height), pixels,
                    sequential_ramp()));
}

void write_column_labels(Markup& out, const HeatMap& map, double width, double bottom) {
  const double cell = (width - kLeft - kRight) / double(map.steps.size());
  double free_from = 0;
  for (std::size_t i = 0; i < map.steps.size(); ++i) {
    const std::string label = tick_label(double(map.steps[i]));
    const double at = kLeft + cell * (double(i) + 0.5), half = 4.1 * double(label.size());
    out.leaf("line",
             {{"class", "tick"}, {"x1", at}, {"x2", at}, {"y1", bottom}, {"y2", bottom + 4}});
    if (at - half < free_from) continue;
    free_from = at + half + 8;
    out.element("text", {{"x", at}, {"y", bottom + 18}, {"text-anchor", "middle"}}, label);
  }
}

void write_row_labels(Markup& out, const HeatMap& map, double height) {
  const double rows = double(map.rows.size());
  double step = std::pow(10, std::floor(std::log10(std::max(rows / 4, 1.0))));
  if (rows / step > 8) step *= rows / step > 20 ? 5 : 2;
  for (double row = 0; row < rows; row += step) {
    const double at = kTop + row / rows * height;
    out.leaf("line", {{"class", "tick"}, {"x1", kLeft - 4}, {"x2", kLeft}, {"y1", at}, {"y2", at}});
    out.element("text", {{"x", kLeft - 8}, {"y", std::max(at + 4, 14.0)}, {"text-anchor", "end"}},
                whole_number(row));
  }
}

void write_drawing(Markup& out, const HeatMap& map, const std::string& image, double width,
                   const char* name) {
  const double height = std::clamp(2.0 * double(map.rows.size()), 160.0, 520.0);
  const double bottom = kTop + height;
  out.open("svg", {{"class", name},
                   {"viewBox", fmt::format("0 0 {} {}", width, bottom + kBottom)},
                   {"role", "img"},
                   {"aria-label", describe(map)},
                   {"data-plot", fmt::format("{} {} {} {}", kLeft, kTop, width - kRight, bottom)}});
  out.open("g", {{"class", "grid"}});
  write_row_labels(out, map, height);
  write_column_labels(out, map, width, bottom);
  out.close();
  out.leaf("image", {{"href", image},
                     {"x", kLeft},
                     {"y", kTop},
                     {"width", width - kLeft - kRight},
                     {"height", height},
                     {"preserveAspectRatio", "none"}});
  out.leaf("rect",
           {{"class", "here"}, {"x", "-20"}, {"y", "-20"}, {"width", "1"}, {"height", "1"}});
  out.close().line_end();
}

Json heat_map_json(const HeatMap& map) {
  std::string bytes;
  for (const float value : map.values) bytes += static_cast<char>(byte_of(value));
  return {{"row", map.row_label},      {"value", map.value_label}, {"scale", map.scale_label},
          {"steps", map.steps},        {"rows", map.rows},         {"values", base64(bytes)},
          {"row_scale", map.row_scale}};
}

}  // namespace

void write(Markup& out, const HeatMap& map) {
  out.open("figure", {{"id", "figure-" + map.id},
                      {"class", "heat-map"},
                      {"data-figure", map.id},
                      {"data-source", map.source},
                      {"data-rows", map.rows.size()},
                      {"data-cols", map.steps.size()}});
  write_caption(out, map.title, map.caption);
  out.open("ul", {{"class", "legend"}}).open("li");
  out.element("span", "0").element("span", {{"class", "heat-bar"}}, "").element("span", "1");
  out.element("span", {{"class", "muted"}}, map.value_label).close().close();
  out.element("p", {{"class", "axis-y"}}, map.row_label + "s, in order of their largest value");
  const std::string image = picture(map);
  out.open("div", {{"class", "drawing"}});
  write_drawing(out, map, image, 880, "wide");
  write_drawing(out, map, image, 400, "narrow");
  out.close();
  out.element("p", {{"class", "axis-x"}}, "training step of the snapshot");
  write_json(out, heat_map_json(map));

  // The numbers themselves are one file away; here is how many rows peak where.
  artifacts::Table peaks({"step", fmt::format("{}s with their largest value here", map.row_label)});
  const std::size_t columns = map.steps.size();
  std::vector<std::size_t> count(columns);
  for (std::size_t row = 0; row < map.rows.size(); ++row) {
    const float* const values = map.values.data() + row * columns;
    ++count[static_cast<std::size_t>(std::max_element(values, values + columns) - values)];
  }
  for (std::size_t i = 0; i < columns; ++i) peaks.add(map.steps[i], count[i]);
  write_data(out, peaks, "the summary of " + map.source);
  out.close().line_end();
}

}  // namespace cresco::report::html
