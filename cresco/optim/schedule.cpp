#include "cresco/optim/schedule.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cresco::optim {

void check(const ScheduleConfig& c) {
  const std::vector<std::string> known{"cosine", "neox_cosine", "linear", "wsd", "constant"};
  require_usage(std::find(known.begin(), known.end(), c.name) != known.end(),
                "schedule.name '{}' is not one of {}{}", c.name, join(known, ", "),
                did_you_mean(c.name, known));
  require_usage(c.warmup_steps >= 0, "schedule.warmup_steps is {}, expected 0 or more",
                c.warmup_steps);
  require_usage(c.decay_steps >= 0, "schedule.decay_steps is {}, expected 0 or more",
                c.decay_steps);
  require_usage(c.name == "constant" || c.decay_steps == 0 || c.decay_steps > c.warmup_steps,
                "schedule.decay_steps is {}, not after the warm-up's {} steps", c.decay_steps,
                c.warmup_steps);
  require_usage(c.min_lr_ratio >= 0 && c.min_lr_ratio <= 1,
                "schedule.min_lr_ratio is {}, expected 0 to 1", c.min_lr_ratio);
  require_usage(c.decay_share > 0 && c.decay_share <= 1,
                "schedule.decay_share is {}, expected more than 0 and at most 1", c.decay_share);
}

double lr_factor(const ScheduleConfig& c, std::int64_t step, std::int64_t total_steps) {
  const auto s = static_cast<double>(step), W = static_cast<double>(c.warmup_steps),
             m = c.min_lr_ratio;
  const auto S = static_cast<double>(c.decay_steps > 0 ? c.decay_steps : total_steps);
  if (step < c.warmup_steps) return s / W;
  if (c.name == "constant") return 1;
  if (c.name == "neox_cosine") {
    const double n = std::min(s, S - W) - W;
    return std::max((1 + std::cos(std::numbers::pi * n / S)) / 2, m);
  }
  if (s >= S) return m;
  if (c.name == "wsd") {
    const double begin = (1 - c.decay_share) * S;
    return s < begin ? 1 : 1 - (1 - m) * (s - begin) / (S - begin);
  }
  const double done = (s - W) / (S - W);
  if (c.name == "linear") return 1 - (1 - m) * done;
  return m + (1 - m) / 2 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace cresco::optim
