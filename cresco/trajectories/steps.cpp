#include "cresco/trajectories/steps.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

namespace cresco::trajectories {
namespace {

using Steps = std::vector<std::int64_t>;

std::optional<Steps> preset(const std::string& name) {
  if (name == "pythia-32")
    return Steps{0,     1,     2,     4,     8,     16,    32,     64,     128,    256,   512,
                 1000,  2000,  3000,  4000,  5000,  6000,  7000,   8000,   9000,   14000, 21000,
                 27000, 34000, 47000, 61000, 75000, 89000, 102000, 116000, 130000, 143000};
  if (name == "pythia-16")
    return Steps{0,    2,    8,     32,    128,   512,   2000,   4000,
                 6000, 8000, 14000, 27000, 47000, 75000, 102000, 130000};
  if (name == "heldout-8") return Steps{10000, 23000, 33000, 43000, 73000, 93000, 113000, 123000};
  if (name == "olmo2-32")
    return Steps{150,    600,    700,    850,    900,    1000,   2000,   3000,
                 4000,   5000,   6000,   7000,   8000,   9000,   14000,  21000,
                 27000,  34000,  47000,  110000, 173000, 236000, 299000, 362000,
                 425000, 488000, 614000, 677000, 740000, 803000, 866000, 928000};
  return std::nullopt;
}

Steps powers_of_two(std::int64_t last) {
  Steps steps{0};
  for (std::int64_t step = 1; step <= last; step *= 2) steps.push_back(step);
  return steps;
}

Steps pythia(std::int64_t last) {
  Steps steps = powers_of_two(std::min<std::int64_t>(512, last));
  for (std::int64_t step = 1000; step <= last; step += 1000) steps.push_back(step);
  return steps;
}

// Steps are words of a command or a recipe.
std::int64_t parse_step(const std::string& text, const std::string& what) {
  const std::vector<std::string> presets{"all",       "log2",     "pythia",   "pythia-32",
                                         "pythia-16", "olmo2-32", "heldout-8"};
  const bool is_word = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0]));
  require_usage(!is_word, "{}: '{}' is no preset and no step{}", what, escape_for_terminal(text),
                did_you_mean(text, presets));
  return as_usage([&] { return parse_int(text, what); });
}

// "0:1000:100" with both ends; calls `take` for each step.
template <class Take>
bool parse_range(const std::string& part, const std::string& what, const Take& take) {
  const auto ends = split(part, ':');
  if (ends.size() < 2) return false;
  require_usage(ends.size() <= 3, "{}: '{}' is not FIRST:LAST or FIRST:LAST:STRIDE", what, part);
  const std::int64_t first = parse_step(ends[0], what), last = parse_step(ends[1], what);
  const std::int64_t stride = ends.size() == 3 ? parse_step(ends[2], what) : 1;
  require_usage(first >= 0 && last >= first && stride > 0, "{}: the range '{}' is empty", what,
                part);
  require_usage((last - first) / stride < 10'000'000, "{}: the range '{}' has too many steps", what,
                part);
  for (std::int64_t i = 0; i <= (last - first) / stride; ++i) take(first + i * stride);
  return true;
}

}  // namespace

Steps snapshot_schedule(const std::string& text, std::int64_t total_steps,
                        const std::function<std::int64_t(std::int64_t)>& step_at) {
  const std::string what = "snapshots.at";
  std::set<std::int64_t> steps{total_steps};
  const auto take = [&](std::int64_t step) {
    require_usage(step >= 0, "{}: step {} is negative", what, step);
    if (step <= total_steps) steps.insert(step);
  };
  if (text == "log2") {
    for (const auto step : powers_of_two(total_steps)) take(step);
  } else if (text == "pythia") {
    for (const auto step : pythia(total_steps)) take(step);
  } else if (const auto known = preset(text)) {
    for (const auto step : *known) take(step);
  } else if (text.starts_with("tokens:")) {
    for (const auto& part : split(std::string_view(text).substr(7), ',')) {
      const std::int64_t tokens = parse_step(part, what);
      require_usage(tokens >= 0, "{}: {} tokens are fewer than none", what, tokens);
      take(step_at(tokens));
    }
  } else {
    for (const auto& part : split(text, ','))
      if (!parse_range(part, what, take)) take(parse_step(part, what));
  }
  return {steps.begin(), steps.end()};
}

Steps named_steps(const std::string& text, std::int64_t last, const std::string& option) {
  if (const auto known = preset(text)) return *known;
  if (text == "pythia") return pythia(143000);
  if (text == "log2") return powers_of_two(last);
  std::set<std::int64_t> steps;
  for (const auto& part : split(text, ',')) {
    const auto take = [&](std::int64_t step) { steps.insert(step); };
    if (!parse_range(part, option, take)) take(parse_step(part, option));
  }
  return {steps.begin(), steps.end()};
}

Steps choose_steps(const std::string& text, const Steps& available, const std::string& where,
                   const std::string& option) {
  const std::set<std::int64_t> there(available.begin(), available.end());
  if (text.empty() || text == "all") return {there.begin(), there.end()};
  std::set<std::int64_t> chosen;
  const auto need = [&](std::int64_t step) {
    require(there.contains(step), "{}: has no step {}; it has {}", where, step,
            list_steps({there.begin(), there.end()}));
    chosen.insert(step);
  };
  const auto take = [&](std::int64_t step) {
    if (there.contains(step)) chosen.insert(step);
  };
  if (const auto known = preset(text)) {
    for (const auto step : *known) need(step);
  } else if (text == "pythia") {
    for (const auto step : pythia(143000)) need(step);
  } else if (text == "log2") {
    for (const auto step : powers_of_two(std::int64_t{1} << 50)) take(step);
  } else {
    for (const auto& part : split(text, ','))
      if (!parse_range(part, option, need)) need(parse_step(part, option));
  }
  require(!chosen.empty(), "{}: none of the steps '{}' exists; it has {}", where, text,
          list_steps({there.begin(), there.end()}));
  return {chosen.begin(), chosen.end()};
}

}  // namespace cresco::trajectories
