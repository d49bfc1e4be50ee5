#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <cmath>

namespace cresco::report {
namespace {

// "1e-05" is "1e-5" to people.
std::string without_padding(std::string text) {
  const auto e = text.find('e');
  if (e == std::string::npos) return text;
  std::size_t digits = e + 1;
  if (text[digits] == '+') text.erase(digits, 1);
  if (text[digits] == '-') ++digits;
  while (digits + 1 < text.size() && text[digits] == '0') text.erase(digits, 1);
  return text;
}

}  // namespace

std::string tick_label(double value) {
  const double size = std::abs(value);
  if (size >= 1e15) return without_padding(fmt::format("{:.3g}", value));
  if (size >= 1e12) return fmt::format("{:.6g}T", value / 1e12);
  if (size >= 1e9) return fmt::format("{:.6g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.6g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.6g}k", value / 1e3);
  if (size >= 1e3 && value == std::floor(value)) return whole_number(value);
  if (size >= 1e-3 || size == 0) return fmt::format("{:.6g}", value);
  return without_padding(fmt::format("{:.3g}", value));
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "–";
  if (value == std::floor(value) && std::abs(value) < 1e15) return whole_number(value);
  if (std::abs(value) >= 1e4 && std::abs(value) < 1e15) return whole_number(std::round(value));
  return without_padding(fmt::format("{:.4g}", value));
}

std::string whole_number(double value) {
  if (!std::isfinite(value)) return "–";
  const std::string digits = fmt::format("{:.0f}", std::abs(value));
  std::string out = std::signbit(value) && digits != "0" ? "-" : "";
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

}  // namespace cresco::report
