// Numbers as people read them on a page.
#pragma once

#include <cstdint>
#include <string>

namespace cresco::report {

std::string tick_label(double value);    // 0.05, 20, 10k, 1e-5
std::string short_number(double value);  // four significant digits; "–" for one that is not finite
std::string whole_number(double value);  // 1,234,567

}  // namespace cresco::report
