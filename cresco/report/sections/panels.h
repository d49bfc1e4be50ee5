// Small charts of metrics.jsonl: one quantity over the steps, one line for each run.
#pragma once

#include "cresco/report/sections/build.h"

#include <cmath>
#include <string>
#include <vector>

namespace cresco::report {

// The folders whose metrics.jsonl has `column`.
std::vector<const Source*> runs_with(const Sources& sources, const std::string& column);

// `column` against `x_column`, of the rows that have both.
Series series_of(const artifacts::Table& metrics, const std::string& column,
                 const std::string& x_column, const std::string& name);

struct Panel {
  const char* column;
  const char* id;
  const char* title;
  Axis y;
  Scale steps = Scale::LogOnePlus;
  double least = -INFINITY;  // lower values are left out, and the caption says so
};

// Adds the panel when a run has its column. Of a run that logged more often than a drawing can show
// some steps are drawn, and the caption says how many.
void add_panel(Section& section, const std::vector<const Source*>& runs, const Panel& panel);

// Thins each series as panels do; what to add to the caption, or "".
std::string thin_out(Chart& chart);

}  // namespace cresco::report
