// Dynamic loss scaling: the loss is multiplied by a number as large as fp16 gradients bear, so that
// small ones are not lost. Where a gradient overflows the update is left out and the scale falls;
// after enough good steps it rises.
//
// After `window` good steps in a row the scale doubles, and counting begins again. An overflow
// halves it, down to `min`, once `hysteresis` overflows, this one among them, have come since it
// last rose; those before cost the hysteresis alone. That is DeepSpeed's DynamicLossScaler, which
// GPT-NeoX's ZeRO optimizers use (consecutive_hysteresis off), and with hysteresis 1 PyTorch's
// GradScaler, which has no least scale.
#pragma once

#include "cresco/base/fields.h"

#include <string>

namespace cresco::optim {

struct LossScaleConfig {
  double initial = 65536;
  std::int64_t window = 2000, hysteresis = 1;
  double min = 1;
  bool schedule_advances_on_overflow = true;

  void fields(FieldVisitor& v) {
    v.field("initial", initial, "scale of the loss at the start, fp16 only");
    v.field("window", window, "good steps after which it doubles", "steps");
    v.field("hysteresis", hysteresis, "overflows since it last doubled before it is halved");
    v.field("min", min, "it does not fall below");
    v.field("schedule_advances_on_overflow", schedule_advances_on_overflow,
            "whether a step without an update counts for the learning rate");
  }
};

// UsageError that names the field.
void check(const LossScaleConfig& config);

class LossScale {
 public:
  explicit LossScale(const LossScaleConfig& config) : config_(config), scale_(config.initial) {}

  double scale() const { return scale_; }

  // After a step: whether its gradients were not finite.
  void update(bool overflow);

  // Steps without an update.
  std::int64_t num_overflows() const { return num_overflows_; }
  // The step that the schedule is asked for at `step` of the run.
  std::int64_t schedule_step(std::int64_t step) const {
    return config_.schedule_advances_on_overflow ? step : step - num_overflows_;
  }

  // The least scale has overflowed in so many steps one after the other: the numbers themselves are
  // not finite, and the run is to end with collapse_text(). DeepSpeed ends at the first of them.
  static constexpr std::int64_t kCollapse = 20;
  bool has_collapsed() const { return overflows_at_min_ >= kCollapse; }
  // "step 120: the loss scale has collapsed: ..."; without an end.
  std::string collapse_text(std::int64_t step) const;

  // For the resume state. Error with `where` for numbers that none of these could have.
  Json state() const;
  void load(const Json& state, const std::string& where);

 private:
  LossScaleConfig config_;
  double scale_;
  std::int64_t good_steps_ = 0;  // since the last overflow or doubling
  std::int64_t used_hysteresis_ = 0;
  std::int64_t num_overflows_ = 0, overflows_at_min_ = 0;
};

}  // namespace cresco::optim
