// How long a training will take, from a few of its steps.
//
// A step takes longer the more gates are open. They are many at the start and fall as thresholds
// and weights move: with u = the sum of the learning rates of the steps so far (how far Adam can
// have moved a weight), the mean open gates per row and head are taken to be
//   l0(u) = l_end + (l_start - l_end) / (1 + u / u0)
// l_start is measured; l_end is `target_l0` where it is set, else kEndShare of the features. u0 is
// not known before the training: three short trainings of small synthetic stacks had about 0.03 to
// 0.1, read off by eye; the bounds below are a guess around them. The time of a step
// between the measured ones is linear in l0. Kinds without a gate for each head take the same
// time at every step.
#pragma once

#include "cresco/dictionaries/training.h"

#include <vector>

namespace cresco::dictionaries {

// The share of open gates that trainings end at.
inline constexpr double kEndShare = 0.015;
struct RateToHalf {  // u0
  double fast = 0.015, likely = 0.05, slow = 0.2;
};

// The factor on all thresholds at which the mean share of open gates over the first 128 of these
// rows is `active`.
double threshold_scale(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                       double active);

// Steps at one share of open gates: their mean l0, and seconds.
struct StepTiming {
  double l0 = 0, seconds = 0, fastest = 0, slowest = 0;  // median, second least, second largest
};

// Ten steps of the training from its start, and ten each at states whose thresholds are scaled to
// fewer open gates: half way (of the logarithm) and at the end. One entry for kinds without gates.
// Nothing is written.
std::vector<StepTiming> time_steps(const TrainingRun& run, const TrainingData& data);

struct TrainingTime {
  double low = 0, likely = 0, high = 0;  // seconds of all steps
};
TrainingTime predict_time(const TrainingRun& run, const TrainingPlan& plan,
                          const std::vector<StepTiming>& timings);

}  // namespace cresco::dictionaries
