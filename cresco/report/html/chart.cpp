// Charts as static SVG: readable with scripts off. The script adds hover values, and may exchange
// the drawing for the one with linear axes.
#include "cresco/report/html/blocks.h"

#include "cresco/report/axis.h"
#include "cresco/report/describe.h"
#include "cresco/report/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace cresco::report::html {
namespace {

// Past this many, a chart draws its lines alone; the marks stay reachable by hovering.
constexpr std::size_t kMostMarks = 12000;
constexpr int kPaletteSize = 6, kNumDashes = 3;
constexpr std::size_t kLongestLabel = 28;
// One drawing of a chart. The narrow one is for phones, and leaves out the marks of dense lines.
struct Frame {
  double width, height;
  bool narrow;
  double character;  // how wide one character of a tick label is
};

constexpr Frame kWide{880, 340, false, 7.2};
constexpr Frame kHalf{440, 270, false, 7.2};
constexpr Frame kNarrow{400, 290, true, 8.2};

std::vector<double> all_x(const Chart& chart) {
  std::vector<double> values;
  for (const Series& series : chart.series)
    values.insert(values.end(), series.x.begin(), series.x.end());
  return values;
}

std::vector<double> all_y(const Chart& chart) {
  std::vector<double> values;
  for (const Series& series : chart.series)
    values.insert(values.end(), series.y.begin(), series.y.end());
  for (const Level& level : chart.levels) values.push_back(level.y);
  return values;
}

// Colour, and past the palette's end a dash.
std::string style_class(const Series& series, std::size_t index) {
  const std::size_t color = series.color < 0 ? index : static_cast<std::size_t>(series.color);
  std::string text = series.ramp < 0 ? fmt::format("c{} d{}", color % kPaletteSize,
                                                   color / kPaletteSize % kNumDashes)
                                     : "ramp";
  if (series.dashed) text += " compared";
  if (series.repeated) text += " repeated";
  return text;
}

std::string style_of(const Series& series) {
  return series.ramp < 0 ? "" : fmt::format("--t:{:.1f}%", 100 * series.ramp);
}

class Drawing {
 public:
  Drawing(const Chart& chart, const Frame& frame)
      : chart_(chart),
        frame_(frame),
        bottom_(frame.height - 26),
        y_(chart.y, all_y(chart), bottom_, kTop, frame.narrow ? 5 : 6),
        left_(room_for_labels()),
        right_(frame.width - 14),
        x_(chart.x, all_x(chart), left_ + 6, right_ - 6, frame.narrow ? 5 : 8) {}

  void write(Markup& out) const {
    out.open("svg", {{"class", frame_.narrow ? "narrow" : "wide"},
                     {"viewBox", fmt::format("0 0 {} {}", frame_.width, frame_.height)},
                     {"role", "img"},
                     {"aria-label", describe(chart_)},
                     {"tabindex", "0"},
                     {"data-x", x_.numbers()},
                     {"data-y", y_.numbers()}});
    out.line_end();
    write_grid(out);
    write_stops(out);
    for (std::size_t i = 0; i < chart_.series.size(); ++i) write_series(out, i);
    write_labels(out);
    write_levels(out);
    out.leaf("circle", {{"class", "here"}, {"r", "5.5"}, {"cx", "-20"}, {"cy", "-20"}});
    out.close().line_end();
  }

 private:
  static constexpr double kTop = 12, kLoneBin = 9;

  double room_for_labels() const {
    std::size_t longest = 1;
    for (const Tick& tick : y_.ticks()) longest = std::max(longest, tick.label.size());
    return frame_.character * double(longest) + 12;
  }

  void write_grid(Markup& out) const {
    out.open("g", {{"class", "grid"}});
    for (const Tick& tick : y_.ticks()) {
      out.leaf("line", {{"x1", left_}, {"x2", right_}, {"y1", tick.at}, {"y2", tick.at}});
      out.element("text", {{"x", left_ - 8}, {"y", tick.at + 4}, {"text-anchor", "end"}},
                  tick.label);
    }
    // Labels that would touch the one before are left out; their ticks stay.
    double free_from = -100;
    for (const Tick& tick : x_.ticks()) {
      out.leaf("line", {{"class", "tick"},
                        {"x1", tick.at},
                        {"x2", tick.at},
                        {"y1", bottom_},
                        {"y2", bottom_ + 5}});
      const double half = frame_.character * double(tick.label.size()) / 2;
      if (tick.at - half < free_from || tick.at + half > frame_.width) continue;
      free_from = tick.at + half + 8;
      out.element("text", {{"x", tick.at}, {"y", bottom_ + 19}, {"text-anchor", "middle"}},
                  tick.label);
    }
    out.leaf("line",
             {{"class", "base"}, {"x1", left_}, {"x2", right_}, {"y1", bottom_}, {"y2", bottom_}});
    out.close().line_end();
  }

  void write_stops(Markup& out) const {
    if (chart_.stops.empty()) return;
    out.open("g", {{"class", "stops"}});
    for (const double stop : chart_.stops)
      if (x_.shows(stop)) {
        const double at = std::clamp(x_.place(stop), left_, right_);
        out.leaf("line",
                 {{"class", "stop"}, {"x1", at}, {"x2", at}, {"y1", kTop}, {"y2", bottom_}});
      }
    out.close().line_end();
  }

  void write_series(Markup& out, std::size_t index) const {
    const Series& series = chart_.series[index];
    std::string line, color;
    std::vector<std::pair<double, double>> marks;
    for (std::size_t i = 0; i < series.x.size(); ++i)
      if (x_.shows(series.x[i]) && y_.shows(series.y[i]))
        marks.emplace_back(x_.place(series.x[i]), y_.place(series.y[i]));
    for (const auto& [x, y] : marks) {
      if (!line.empty()) line += ' ';
      line += coordinate(x) + "," + coordinate(y);
    }
    out.open("g", {{"class", "series " + style_class(series, index)},
                   {"style", style_of(series)},
                   {"data-series", series.name},
                   {"data-source", series.source},
                   {"data-points", marks.size()}});
    if (series.bins)
      write_bins(out, series, marks);
    else if (series.line && marks.size() > 1)
      out.leaf("polyline", {{"class", "line"}, {"points", line}});
    if (series.marks) write_marks(out, series, marks);
    out.close().line_end();
  }

  struct Box {
    double left, top, right, bottom;
    bool touches(const Box& other) const {
      return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
    }
  };

  // Names beside their marks, where there is room, each once: those that would touch a mark, a line
  // without marks or another name are left to hovering.
  void write_labels(Markup& out) const {
    std::vector<Box> taken;
    for (const Series& series : chart_.series)
      for (std::size_t i = 0; i < series.x.size(); ++i) {
        if (!shows(series, i)) continue;
        const std::size_t from = series.marks || i == 0 || !shows(series, i - 1) ? i : i - 1;
        const double x = x_.place(series.x[i]), y = y_.place(series.y[i]),
                     x0 = x_.place(series.x[from]), y0 = y_.place(series.y[from]),
                     room = series.marks ? 4 : 1;
        taken.push_back({std::min(x, x0) - room, std::min(y, y0) - room, std::max(x, x0) + room,
                         std::max(y, y0) + room});
      }
    out.open("g", {{"class", "names"}});
    std::set<std::string> written;
    for (const Series& series : chart_.series) {
      const std::vector<std::string>& names = series.names.empty() ? series.labels : series.names;
      for (std::size_t i = 0; i < names.size(); ++i)
        if (shows(series, i) && !names[i].empty() && !written.contains(names[i]) &&
            write_label(out, names[i], x_.place(series.x[i]), y_.place(series.y[i]), taken))
          written.insert(names[i]);
    }
    out.close().line_end();
  }

  bool shows(const Series& series, std::size_t i) const {
    return x_.shows(series.x[i]) && y_.shows(series.y[i]);
  }

  // Whether there was room.
  bool write_label(Markup& out, const std::string& label, double x, double y,
                   std::vector<Box>& taken) const {
    const std::string text = shortened(label, kLongestLabel);
    const double width = frame_.character * double(num_characters(text));
    const struct {
      Box box;
      const char* anchor;
      double at;
    } places[] = {{{x + 7, y - 9, x + 7 + width, y + 7}, "start", x + 7},
                  {{x - 7 - width, y - 9, x - 7, y + 7}, "end", x - 7},
                  {{x - width / 2, y - 22, x + width / 2, y - 6}, "middle", x},
                  {{x - width / 2, y + 6, x + width / 2, y + 22}, "middle", x},
                  // At the edges: above and below, all of it to one side.
                  {{x - 4, y - 22, x - 4 + width, y - 6}, "start", x - 4},
                  {{x - 4, y + 6, x - 4 + width, y + 22}, "start", x - 4},
                  {{x + 4 - width, y - 22, x + 4, y - 6}, "end", x + 4},
                  {{x + 4 - width, y + 6, x + 4, y + 22}, "end", x + 4}};
    for (const auto& [box, anchor, at] : places) {
      if (box.left < left_ || box.right > frame_.width || box.top < 0 || box.bottom > bottom_)
        continue;
      if (std::any_of(taken.begin(), taken.end(),
                      [&box = box](const Box& other) { return other.touches(box); }))
        continue;
      taken.push_back(box);
      out.element("text", {{"x", at}, {"y", box.bottom - 4}, {"text-anchor", anchor}}, text);
      return true;
    }
    return false;
  }

  // The outline of the bins from the axis up and down to it again, a zero's as one of its own.
  void write_bins(Markup& out, const Series& series,
                  std::vector<std::pair<double, double>> middles) const {
    std::sort(middles.begin(), middles.end());
    const bool zero = chart_.x.scale == Scale::Log && !middles.empty() &&
                      std::find(series.x.begin(), series.x.end(), 0) != series.x.end();
    const std::size_t first = zero ? 1 : 0;
    const double half = middles.size() > first + 1
                            ? (middles[first + 1].first - middles[first].first) / 2
                            : kLoneBin;
    if (zero) write_outline(out, {middles[0]}, std::min(half, kLoneBin));
    if (middles.size() > first)
      write_outline(out, {middles.begin() + static_cast<std::ptrdiff_t>(first), middles.end()},
                    half);
  }

  void write_outline(Markup& out, const std::vector<std::pair<double, double>>& middles,
                     double half) const {
    const auto at = [&](double x) { return coordinate(std::clamp(x, left_, frame_.width)); };
    std::string points = at(middles.front().first - half) + "," + coordinate(bottom_);
    for (const auto& [x, y] : middles)
      points +=
          fmt::format(" {},{} {},{}", at(x - half), coordinate(y), at(x + half), coordinate(y));
    points += fmt::format(" {},{}", at(middles.back().first + half), coordinate(bottom_));
    out.leaf("polyline", {{"class", "line bins"}, {"points", points}});
  }

  void write_marks(Markup& out, const Series& series,
                   const std::vector<std::pair<double, double>>& marks) const {
    // Dots that stand closer than their own size are kept, but small.
    const bool dense = series.line && !series.bins && double(marks.size()) > frame_.width / 12;
    if (dense && (frame_.narrow || num_all_marks() > kMostMarks)) return;
    const double radius = dense                            ? 1.1
                          : series.bins || series.repeated ? 1.6
                          : series.hollow                  ? 4.2
                                                           : 3.2;
    // The narrow drawing repeats the marks of the wide one, and is not counted with them.
    const std::string name =
        fmt::format("{}{}", frame_.narrow ? "dot" : "mark", series.hollow ? " hollow" : "");
    for (const auto& [x, y] : marks)
      out.leaf("circle", {{"class", name}, {"cx", x}, {"cy", y}, {"r", radius}});
  }

  std::size_t num_all_marks() const {
    std::size_t count = 0;
    for (const Series& series : chart_.series) count += series.x.size();
    return count;
  }

  // Labels stand above their lines, and move under the one before where they would touch; at the
  // right end, or at the left where fewer points lie under them.
  void write_levels(Markup& out) const {
    std::vector<Level> levels = chart_.levels;
    std::erase_if(levels, [&](const Level& level) { return !y_.shows(level.y); });
    std::sort(levels.begin(), levels.end(),
              [](const Level& a, const Level& b) { return a.y > b.y; });
    std::vector<double> texts;
    for (const Level& level : levels)
      texts.push_back(std::max(y_.place(level.y) - 6,
                               (texts.empty() ? 0 : texts.back()) + 2 * frame_.character));
    const bool at_left = num_under(levels, texts, true) < num_under(levels, texts, false);
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const double at = y_.place(levels[i].y);
      out.open("g", {{"class", "level"}, {"data-level", levels[i].y}});
      out.leaf("line", {{"x1", left_}, {"x2", right_}, {"y1", at}, {"y2", at}});
      out.element("text",
                  {{"x", at_left ? left_ + 4 : right_},
                   {"y", texts[i]},
                   {"text-anchor", at_left ? "start" : "end"}},
                  levels[i].label);
      out.close();
    }
    out.line_end();
  }

  // How many points the labels would cover, written from the left end or up to the right one.
  std::size_t num_under(const std::vector<Level>& levels, const std::vector<double>& texts,
                        bool at_left) const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const double width = frame_.character * double(num_characters(levels[i].label)),
                   from = at_left ? left_ + 4 : right_ - width;
      const Box box{from, texts[i] - 14, from + width, texts[i] + 4};
      for (const Series& series : chart_.series)
        for (std::size_t k = 0; k < series.x.size(); ++k)
          if (shows(series, k)) {
            const double x = x_.place(series.x[k]), y = y_.place(series.y[k]);
            count += box.touches({x - 4, y - 4, x + 4, y + 4});
          }
    }
    return count;
  }

  const Chart& chart_;
  Frame frame_;
  double bottom_;
  AxisLayout y_;
  double left_, right_;
  AxisLayout x_;
};

void write_drawings(Markup& out, const Chart& chart) {
  Drawing(chart, chart.half ? kHalf : kWide).write(out);
  Drawing(chart, kNarrow).write(out);
}

void write_sample(Markup& out, const Series& series, std::size_t index) {
  out.open("svg", {{"class", "sample " + style_class(series, index)},
                   {"style", style_of(series)},
                   {"viewBox", "0 0 26 12"},
                   {"aria-hidden", "true"}});
  if (series.bins)
    out.leaf("polyline", {{"class", "line bins"}, {"points", "3,12 3,2 23,2 23,12"}});
  else if (series.line)
    out.leaf("polyline", {{"class", "line"}, {"points", "1,6 25,6"}});
  if (series.marks && !series.bins)
    out.leaf("circle",
             {{"class", series.hollow ? "dot hollow" : "dot"}, {"cx", 13}, {"cy", 6}, {"r", 3.4}});
  out.close();
}

// A family of curves from one end of the ramp to the other: its ends say which is which.
bool is_family(const Chart& chart) {
  return std::all_of(chart.series.begin(), chart.series.end(),
                     [](const Series& series) { return series.ramp >= 0 && !series.dashed; });
}

// Whether the arm that a repeated series belongs to is in the chart by another.
bool is_of_another(const Series& series, const Chart& chart) {
  return series.repeated &&
         std::any_of(chart.series.begin(), chart.series.end(), [&](const Series& other) {
           return !other.repeated && other.color == series.color;
         });
}

void write_legend(Markup& out, const Chart& chart) {
  if (chart.series.empty()) return;
  out.open("ul", {{"class", "legend"}});
  if (is_family(chart)) {
    out.open("li").element("span", chart.series.front().name);
    out.element("span", {{"class", "ramp-bar"}}, "")
        .element("span", chart.series.back().name)
        .close();
  } else {
    for (std::size_t i = 0; i < chart.series.size(); ++i) {
      if (is_of_another(chart.series[i], chart)) continue;
      out.open("li");
      write_sample(out, chart.series[i], i);
      out.element("bdi", chart.series[i].name).close();
    }
  }
  if (!chart.stops_label.empty()) {
    out.open("li").open("svg",
                        {{"class", "sample"}, {"viewBox", "0 0 12 12"}, {"aria-hidden", "true"}});
    out.leaf("line", {{"class", "stop"}, {"x1", 6}, {"x2", 6}, {"y1", 0}, {"y2", 12}}).close();
    out.element("span", chart.stops_label).close();
  }
  out.close().line_end();
}

Json chart_json(const Chart& chart) {
  Json series = Json::array();
  for (const Series& one : chart.series) {
    if (!one.marks) continue;  // nothing to hover over
    Json entry = {{"name", visible_text(one.name)}, {"ramp", one.ramp}, {"x", one.x}, {"y", one.y}};
    for (const std::string& label : one.labels) entry["labels"].push_back(visible_text(label));
    series.push_back(std::move(entry));
  }
  return {{"x", visible_text(chart.x.label)},
          {"y", visible_text(chart.y.label)},
          {"series", std::move(series)}};
}

}  // namespace

void write(Markup& out, const Chart& chart) {
  out.open("figure", {{"id", "figure-" + chart.id},
                      {"class", chart.half ? "chart half" : "chart"},
                      {"data-figure", chart.id},
                      {"data-source", chart.source}});
  write_caption(out, chart.title, chart.caption);
  out.open("div", {{"class", "above"}});
  write_legend(out, chart);
  if (chart.linear_toggle)
    out.element(
        "button",
        {{"type", "button"}, {"class", "linear"}, {"aria-pressed", "false"}, {"hidden", ""}},
        "linear axes");
  out.close().line_end();
  out.element("p", {{"class", "axis-y"}}, chart.y.label);
  out.open("div", {{"class", "drawing"}});
  write_drawings(out, chart);
  out.close();
  out.element("p", {{"class", "axis-x"}}, chart.x.label);
  if (chart.linear_toggle) {
    Chart linear = chart;
    linear.x.scale = linear.y.scale = Scale::Linear;
    out.open("template");
    write_drawings(out, linear);
    out.close().line_end();
  }
  write_json(out, chart_json(chart));
  write_data(out, chart.data, chart.source);
  out.close().line_end();
}

}  // namespace cresco::report::html
