// Where values stand along an axis, and which of them get a tick.
#pragma once

#include "cresco/report/report.h"

#include <string>
#include <vector>

namespace cresco::report {

struct Tick {
  double value = 0, at = 0;
  std::string label;
};

// The axis runs from `begin` to `end` in the units of the drawing; for a vertical one that grows
// upwards, begin is the larger. place() is
//   begin + (f(value) - f(low)) / (f(high) - f(low)) * (end - begin),  f = identity, log10 or
//   log10(1 + x)
// and the page's script computes the same from these numbers.
class AxisLayout {
 public:
  // `values` are all that have to fit; those that are not finite, or negative on a log axis, are
  // ignored.
  AxisLayout(const Axis& axis, const std::vector<double>& values, double begin, double end,
             int most_ticks);

  bool shows(double value) const;
  double place(double value) const;
  const std::vector<Tick>& ticks() const { return ticks_; }
  // scale, low, high, begin, end, zero: as the page's script reads them.
  std::string numbers() const;

 private:
  double f(double value) const;
  void choose_linear(double low, double high, int most_ticks);
  void choose_log(double low, double high, int most_ticks);
  void choose_log_one_plus(double low, double high);
  void add_tick(double value);

  Scale scale_;
  double low_ = 0, high_ = 1, begin_, end_, zero_;
  std::vector<Tick> ticks_;
};

}  // namespace cresco::report
