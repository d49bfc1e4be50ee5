#include "cresco/dictionaries/step_cost.h"

#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/dictionaries/random_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

constexpr std::int64_t kTimedSteps = 10;

double active_share(const Crosscoder& crosscoder, const at::Tensor& p_BF, double scale) {
  double open = 0;
  for (std::int64_t k = 0; k < crosscoder.parameters().num_heads(); ++k)
    open += (p_BF * crosscoder.norm_KF()[k])
                .gt(crosscoder.threshold_F() * scale)
                .to(at::kFloat)
                .mean()
                .item<double>();
  return open / static_cast<double>(crosscoder.parameters().num_heads());
}

// The first of the steps is not timed: it touches memory for the first time.
template <class Rates>
StepTiming time_some(CrosscoderStep& step, const TrainingRun& run, const TrainingData& data,
                     const at::Tensor& order_V, const Rates& rates) {
  const std::int64_t V = data.x_VKD.size(0), B = std::min(run.training.batch_size, V);
  const std::int64_t per_epoch = V / B;  // whole batches
  StepTiming timing;
  std::vector<double> seconds;
  for (std::int64_t i = 0; i <= kTimedSteps; ++i) {
    const double started = now_seconds();
    step.load(
        data.x_VKD,
        {order_V.const_data_ptr<std::int64_t>() + i % per_epoch * B, static_cast<std::size_t>(B)},
        {run.training.noise_std, run.seed, i});
    const LossTerms terms = step.update(rates(i));
    require(std::isfinite(terms.loss), "a step of the probe has the loss {}: is lr too high?",
            terms.loss);
    if (i == 0) continue;
    seconds.push_back(now_seconds() - started);
    timing.l0 += terms.l0 / static_cast<double>(kTimedSteps);
  }
  std::sort(seconds.begin(), seconds.end());
  timing.fastest = seconds[1];
  timing.seconds = (seconds[4] + seconds[5]) / 2;
  timing.slowest = seconds[kTimedSteps - 2];
  return timing;
}

double seconds_at(const std::vector<StepTiming>& timings, double l0, double StepTiming::*seconds) {
  // From the most open gates to the fewest.
  if (l0 >= timings.front().l0) return timings.front().*seconds;
  for (std::size_t i = 1; i < timings.size(); ++i) {
    const StepTiming &above = timings[i - 1], &below = timings[i];
    if (l0 < below.l0) continue;
    const double w = (l0 - below.l0) / std::max(above.l0 - below.l0, 1e-30);
    return w * above.*seconds + (1 - w) * below.*seconds;
  }
  return timings.back().*seconds;
}

}  // namespace

double threshold_scale(const CrosscoderParameters& parameters, const at::Tensor& x_BKD,
                       double active) {
  const Crosscoder crosscoder(parameters);
  const at::Tensor p_BF =
      crosscoder.pre_activation(x_BKD.narrow(0, 0, std::min<std::int64_t>(128, x_BKD.size(0))));
  double low = -12, high = 12;  // of the logarithm
  for (int i = 0; i < 30; ++i) {
    const double middle = (low + high) / 2;
    (active_share(crosscoder, p_BF, std::exp(middle)) > active ? low : high) = middle;
  }
  return std::exp((low + high) / 2);
}

std::vector<StepTiming> time_steps(const TrainingRun& run, const TrainingData& data) {
  const TrainingShape shape = data.shape();
  const CrosscoderConfig& c = run.training;
  const ThreadsForSteps threads(flops_of_step(run, shape));
  const auto step = initial_step(run, shape, {}, data.x_VKD.device());
  const std::int64_t num_steps = plan_training(run, shape).num_steps;
  const at::Tensor order_V = RowOrder(random_kind(run.random), run.seed, shape.rows).of_epoch(0);
  const double coefficient = sparsity_coefficient(run.kind, c);
  std::vector<StepTiming> timings{time_some(*step, run, data, order_V, [&](std::int64_t i) {
    return rates_at(c, coefficient, i, num_steps);
  })};
  if (step->activation().kind != ActivationKind::JumpRelu) return timings;

  const auto features = static_cast<double>(c.d_sae);
  const double end = c.target_l0 > 0 ? std::min(1.0, c.target_l0 / features) : kEndShare;
  const double begin = timings[0].l0 / features;
  const at::Tensor x_BKD =
      data.x_VKD
          .index_select(
              0,
              order_V.narrow(0, 0, std::min<std::int64_t>(128, shape.rows)).to(data.x_VKD.device()))
          .to(at::kCPU, at::kFloat);
  for (const double share : {std::sqrt(begin * end), end}) {
    if (share <= 0 || share >= begin) continue;
    const double scale = threshold_scale(step->parameters(), x_BKD, share);
    for (const auto& [name, t] : step->state())
      if (name == "log_threshold_F") t.add_(std::log(scale));
    // Rates of 0 keep the state where it was put; the work is the same.
    timings.push_back(time_some(*step, run, data, order_V, [&](std::int64_t i) {
      return StepRates{.step = kTimedSteps + i, .l1_coefficient = coefficient};
    }));
  }
  return timings;
}

TrainingTime predict_time(const TrainingRun& run, const TrainingPlan& plan,
                          const std::vector<StepTiming>& timings) {
  const CrosscoderConfig& c = run.training;
  const double start = timings.front().l0, end = timings.back().l0;
  // Long trainings some steps at a time.
  const std::int64_t stride = std::max<std::int64_t>(1, plan.last_step / 10000);
  const auto total = [&](double u0, double StepTiming::*seconds) {
    double sum = 0, moved = 0;
    for (std::int64_t i = 0; i < plan.last_step; i += stride) {
      const auto count = static_cast<double>(std::min(stride, plan.last_step - i));
      sum += count * seconds_at(timings, end + (start - end) / (1 + moved / u0), seconds);
      moved += count * rates_at(c, 0, i, plan.num_steps).lr;
    }
    return sum;
  };
  // Which end of the range is longer depends on whether dense or sparse steps are.
  const RateToHalf u0;
  return {std::min(total(u0.fast, &StepTiming::fastest), total(u0.slow, &StepTiming::fastest)),
          total(u0.likely, &StepTiming::seconds),
          std::max(total(u0.fast, &StepTiming::slowest), total(u0.slow, &StepTiming::slowest))};
}

}  // namespace cresco::dictionaries
