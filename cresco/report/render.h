// The renderers of a report.
#pragma once

#include "cresco/report/report.h"

#include <string>

namespace cresco::report {

// One page that holds everything it needs: it opens from disk and asks the network for nothing.
std::string render_html(const Report& report);

// For terminals and for reading changes: what every figure says, in words and small tables.
std::string render_text(const Report& report);

}  // namespace cresco::report
