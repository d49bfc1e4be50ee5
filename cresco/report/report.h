// A report is data: sections of charts, tables and lists. Those who build sections know nothing of
// HTML; the renderers know nothing of models.
#pragma once

#include "cresco/artifacts/table.h"
#include "cresco/base/fields.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace cresco::report {

// LogOnePlus is log(1 + value), for steps. Log gives zero a place of its own, left of the smallest
// positive value; negative values are left out.
enum class Scale { Linear, Log, LogOnePlus };

struct Axis {
  std::string label;  // with the unit: "loss (nats per token)"
  Scale scale = Scale::Linear;
};

// One mark per point with finite coordinates, and a line through them.
struct Series {
  std::string name;
  std::string source;  // the file whose rows the marks are
  std::vector<double> x, y;
  std::vector<std::string> labels;  // what each mark is called, or empty
  std::vector<std::string> names;   // what stands beside each mark; empty: its label
  bool line = true, marks = true;
  bool bins =
      false;  // a histogram: x are the middles of bins of one width on the axis; 0 stands apart
  bool hollow = false;
  bool dashed = false;    // something to compare with
  bool repeated = false;  // another seed of a series before it: thin, and in the legend by that one
  int color = -1;         // a place in the palette; -1: the place in the chart
  double ramp = -1;  // in [0, 1]: a place on the sequential ramp instead of a colour of the palette
};

// A horizontal line to compare with.
struct Level {
  double y = 0;
  std::string label;
};

struct Chart {
  std::string id;  // unique on the page
  std::string title, source, caption;
  Axis x, y;
  std::vector<Series> series;
  std::vector<Level> levels;
  std::vector<double> stops;  // thin vertical lines
  std::string stops_label;
  bool half = false;           // half of the page's width is enough
  bool linear_toggle = false;  // the reader may switch both axes to linear
  artifacts::Table data;       // the rows behind the drawing
};

// values[row * columns + column] is in [0, 1], relative to row_scale[row].
struct HeatMap {
  std::string id, title, source, caption;
  std::string row_label, value_label, scale_label;
  std::vector<std::int64_t> steps;  // of the columns
  std::vector<std::int64_t> rows;   // what each row is, from the top
  std::vector<float> values, row_scale;
};

struct DataTable {
  std::string id, title, source, caption;
  artifacts::Table table;
  bool half = true;  // half of the page's width is enough; a long table of pairs takes it twice
};

struct Passage {
  std::int64_t step = 0;
  std::string prompt, continuation;
};

struct Passages {
  std::string id, title, source;
  std::vector<Passage> passages;
};

// One number of the summary.
struct Fact {
  std::string label, value, note;
};

struct Facts {
  std::vector<Fact> facts;
};

// What made one folder: its manifest, or null.
struct Origin {
  std::string name, path, recipe;
  Json manifest;
};

struct Provenance {
  std::vector<Origin> origins;
};

// `token` is a place in the atlas' vocabulary.
struct ScoredToken {
  std::uint32_t token = 0;
  float score = 0;
};

// What one feature promotes, or suppresses, at one snapshot: the strongest first. `floor` is what
// chance reaches; NaN when it is not known.
struct TokenList {
  std::uint32_t row = 0;
  std::int64_t step = 0;
  float floor = 0;
  std::vector<ScoredToken> tokens;
};

struct Neighbour {
  std::uint32_t row = 0, neighbour = 0;
  float cosine = 0;
};

// Everything that is known of each feature of a dictionary. Rows are those of `features`; norms and
// rates are (steps, rows), or empty. Lists stand in order of row and step, neighbours in order of
// row, the nearest first.
struct FeatureAtlas {
  std::string id, title, source, caption;
  std::vector<std::int64_t> steps;
  artifacts::Table features;
  std::vector<float> norms, rates;
  std::vector<std::string> vocabulary;
  std::vector<TokenList> promoted, suppressed;
  std::vector<Neighbour> neighbours;
};

using Block = std::variant<Facts, Chart, HeatMap, DataTable, Passages, FeatureAtlas, Provenance>;

struct Section {
  std::string id, title, text;
  std::vector<Block> blocks;
};

struct Report {
  std::string title, subtitle;
  std::vector<Section> sections;
  std::vector<std::string> absent;  // "planted features (planted.csv)"
  std::string version;              // of the program that made it
};

}  // namespace cresco::report
