// Learning-rate schedules: the factor on the peak rate as a function of the step.
#pragma once

#include "cresco/base/fields.h"

namespace cresco::optim {

struct ScheduleConfig {
  std::string name = "cosine";
  std::int64_t warmup_steps = 0, decay_steps = 0;
  double min_lr_ratio = 0.1;
  double decay_share = 0.1;

  void fields(FieldVisitor& v) {
    v.field("name", name, "cosine | neox_cosine | linear | wsd | constant");
    v.field("warmup_steps", warmup_steps, "linear warm-up from 0", "steps");
    v.field("decay_steps", decay_steps,
            "the step at which the rate has come down; 0 is the last one", "steps");
    v.field("min_lr_ratio", min_lr_ratio, "what is left of the peak rate at the end");
    v.field("decay_share", decay_share, "wsd: the last share of the steps, in which it comes down");
  }
};

void check(const ScheduleConfig& config);

// The factor for the update that takes `step` to `step + 1`; with a warm-up it is 0 at step 0. With
// W warm-up steps, S decay steps (or `total_steps`), m the least ratio:
//   warm-up      s / W                                                   for s < W
//   cosine       m + (1 - m)/2 * (1 + cos(pi (s - W) / (S - W)))         then m
//   neox_cosine  max((1 + cos(pi n / S)) / 2, m), n = min(s, S - W) - W  (GPT-NeoX's AnnealingLR)
//   linear       1 - (1 - m) (s - W) / (S - W)                           then m
//   wsd          1, then over the last decay_share of S linearly down to m; published Muon runs
//                (linear warm-down) have m = 0
//   constant     1
double lr_factor(const ScheduleConfig& config, std::int64_t step, std::int64_t total_steps);

}  // namespace cresco::optim
