#include "cresco/report/axis.h"

#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cresco::report {
namespace {

// 1, 2 or 5 times a power of ten, at least `least`.
double nice_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

// Keeps 0.30000000000000004 out of the labels.
double rounded(double value, double step) {
  const double scaled = std::round(value / step);
  return step < 1 ? scaled / std::round(1 / step) : scaled * step;
}

}  // namespace

AxisLayout::AxisLayout(const Axis& axis, const std::vector<double>& values, double begin,
                       double end, int most_ticks)
    : scale_(axis.scale), begin_(begin), end_(end), zero_(begin) {
  double low = INFINITY, high = -INFINITY;
  bool has_zero = false;
  for (const double value : values) {
    if (!std::isfinite(value) || (scale_ != Scale::Linear && value < 0)) continue;
    if (scale_ == Scale::Log && value == 0) {
      has_zero = true;
      continue;
    }
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) low = high = 1;

  switch (scale_) {
    case Scale::Linear:
      choose_linear(low, high, most_ticks);
      break;
    case Scale::LogOnePlus:
      choose_log_one_plus(low, high);
      break;
    case Scale::Log:
      if (has_zero) begin_ += 0.06 * (end_ - begin_);
      choose_log(low, high, most_ticks);
      if (has_zero) add_tick(0);
  }
  std::sort(ticks_.begin(), ticks_.end(),
            [](const Tick& a, const Tick& b) { return a.value < b.value; });
}

double AxisLayout::f(double value) const {
  switch (scale_) {
    case Scale::Log:
      return std::log10(value);
    case Scale::LogOnePlus:
      return std::log10(1 + value);
    default:
      return value;
  }
}

bool AxisLayout::shows(double value) const {
  return std::isfinite(value) && (scale_ == Scale::Linear || value >= 0);
}

double AxisLayout::place(double value) const {
  if (scale_ == Scale::Log && value <= 0) return zero_;
  return begin_ + (f(value) - f(low_)) / (f(high_) - f(low_)) * (end_ - begin_);
}

std::string AxisLayout::numbers() const {
  const char* const names[] = {"linear", "log", "log1p"};
  return fmt::format("{} {} {} {} {} {}", names[static_cast<int>(scale_)], low_, high_, begin_,
                     end_, zero_);
}

void AxisLayout::add_tick(double value) {
  ticks_.push_back({value, place(value), tick_label(value)});
}

// The range ends at ticks, and reaches down to zero when zero is near.
void AxisLayout::choose_linear(double low, double high, int most_ticks) {
  if (low >= 0 && low < 0.5 * high) low = 0;
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-12 * size || size < 1e-290) {
    const double room = size < 1e-290 ? 1 : 0.1 * size;
    low -= room;
    high += room;
  }
  const double step = nice_step((high - low) / most_ticks);
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  low_ = rounded(first * step, step);
  high_ = rounded(last * step, step);
  for (double i = first; i <= last; ++i) add_tick(rounded(i * step, step));
}

// Powers of ten over many decades; 1, 2, 5 over a few; even steps inside one.
void AxisLayout::choose_log(double low, double high, int most_ticks) {
  const double room = std::max(0.03 * (std::log10(high) - std::log10(low)), 0.005);
  // Far from where doubles end, so that no bound becomes zero or infinite.
  low_ = std::clamp(low / std::pow(10.0, room), 1e-300, 1e299);
  high_ = std::clamp(high * std::pow(10.0, room), 10 * low_ / 9, 1e300);
  const double decades = std::log10(high_ / low_);
  if (decades < 1) {
    const double step = nice_step((high_ - low_) / (most_ticks + 3));
    for (double i = std::ceil(low_ / step); i * step <= high_; ++i)
      add_tick(rounded(i * step, step));
    return;
  }
  const double stride = std::max(1.0, std::ceil(decades / most_ticks));
  for (double power = std::floor(std::log10(low_)); power <= std::log10(high_); ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 2.5) continue;
      if (factor == 1 && std::fmod(std::abs(power), stride) != 0) continue;
      const double value = std::stod(fmt::format("{}e{}", factor, power));
      if (value >= low_ && value <= high_) add_tick(value);
    }
  }
}

void AxisLayout::choose_log_one_plus(double low, double high) {
  low_ = low < 4 ? 0 : low;
  high_ = std::max(high, low_ + 1);
  add_tick(low_);
  for (double power = 1; power <= high_; power *= 10)
    for (const double factor : {1.0, 2.0, 5.0})
      if ((factor == 1 || high_ < 100) && factor * power > low_ && factor * power <= high_)
        add_tick(factor * power);
}

}  // namespace cresco::report
