// Figures in words: what a screen reader says, and what the text rendering prints.
#pragma once

#include "cresco/report/report.h"

#include <string>
#include <vector>

namespace cresco::report {

// "train/loss: 40 points, from 9.2 to 3.1, lowest 3.05"
std::string describe(const Series& series);
std::string describe(const Chart& chart);
std::string describe(const HeatMap& map);

// The series' points that an axis of this chart can show.
std::size_t num_marks(const Chart& chart, const Series& series);

}  // namespace cresco::report
