// Charts of metrics.jsonl: one quantity over the steps, one line for each run.
#pragma once

#include "cresco/report/sections/arms.h"
#include "cresco/report/sections/build.h"

#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace cresco::report {

// A folder with metrics.jsonl, and how it is drawn among the others. A run's arm and seed are those
// of its manifest's settings; without an arm it is one of its own, named as its folder is.
struct Run {
  const Source* source = nullptr;
  Look look;
};

// The folders whose metrics.jsonl has `column`.
std::vector<Run> runs_with(const Sources& sources, const std::string& column);

// `column` against `x_column`, of the rows that have both.
Series series_of(const artifacts::Table& metrics, const std::string& column,
                 const std::string& x_column, const std::string& name);

struct Panel {
  std::string column, id, title;
  Axis y;
  Scale steps = Scale::LogOnePlus;
  double least = -INFINITY;  // lower values are left out, and the caption says so
};

// The panel, or nothing when no run has its column. Of a run that logged more often than a drawing
// can show some steps are drawn, and the caption says how many.
std::optional<Chart> panel_of(const std::vector<Run>& runs, const Panel& panel,
                              const std::string& x_column = "step");
void add_panel(Section& section, const std::vector<Run>& runs, const Panel& panel);

// Thins each series as panels do; what to add to the caption, or "".
std::string thin_out(Chart& chart);

// The points as they are drawn, below these three names: of the series, its x and its y.
artifacts::Table points_of(const Chart& chart, const std::vector<std::string>& columns);

}  // namespace cresco::report
