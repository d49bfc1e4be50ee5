#include "cresco/optim/loss_scale.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace cresco::optim {

void check(const LossScaleConfig& c) {
  require_usage(c.initial > 0 && std::isfinite(c.initial),
                "loss_scale.initial is {}, expected more than 0", c.initial);
  require_usage(c.min > 0 && c.min <= c.initial,
                "loss_scale.min is {}, expected more than 0 and at most loss_scale.initial, {}",
                c.min, c.initial);
  require_usage(c.window >= 1, "loss_scale.window is {}, expected at least 1", c.window);
  require_usage(c.hysteresis >= 1, "loss_scale.hysteresis is {}, expected at least 1",
                c.hysteresis);
}

void LossScale::update(bool overflow) {
  if (!overflow) {
    overflows_at_min_ = 0;
    if (++good_steps_ < config_.window) return;
    // In float GradScaler keeps a scale that would become infinite.
    if (scale_ * 2 <= 0x1p127) scale_ *= 2;
    good_steps_ = 0;
    used_hysteresis_ = 0;
    return;
  }
  ++num_overflows_;
  good_steps_ = 0;
  if (used_hysteresis_ + 1 < config_.hysteresis) {
    ++used_hysteresis_;
    return;
  }
  overflows_at_min_ = scale_ <= config_.min ? overflows_at_min_ + 1 : 0;
  scale_ = std::max(scale_ / 2, config_.min);
}

std::string LossScale::collapse_text(std::int64_t step) const {
  return fmt::format(
      "step {}: the loss scale has collapsed: gradients still overflow at the least scale, "
      "loss_scale.min {}, {} steps in a row ({} steps without an update in all)",
      step, config_.min, overflows_at_min_, num_overflows_);
}

Json LossScale::state() const {
  return {{"scale", scale_},
          {"good_steps", good_steps_},
          {"used_hysteresis", used_hysteresis_},
          {"num_overflows", num_overflows_},
          {"overflows_at_min", overflows_at_min_}};
}

void LossScale::load(const Json& state, const std::string& where) {
  const double scale = get_double(state, "scale", where);
  require(scale > 0 && std::isfinite(scale), "{}: the loss scale is {}", where, scale);
  const auto count = [&](const char* key) {
    const std::int64_t value = get_int(state, key, where);
    require(value >= 0, "{}: '{}' is {}", where, key, value);
    return value;
  };
  good_steps_ = count("good_steps");
  used_hysteresis_ = count("used_hysteresis");
  num_overflows_ = count("num_overflows");
  overflows_at_min_ = count("overflows_at_min");
  scale_ = scale;
}

}  // namespace cresco::optim
