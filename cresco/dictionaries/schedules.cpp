#include "cresco/dictionaries/schedules.h"

#include <algorithm>

namespace cresco::dictionaries {
namespace {

std::int64_t share(double fraction, std::int64_t num_steps) {
  return static_cast<std::int64_t>(fraction * static_cast<double>(num_steps));
}

double ratio(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

}  // namespace

std::int64_t steps_per_epoch(std::int64_t num_rows, std::int64_t batch_size) {
  return (num_rows + batch_size - 1) / batch_size;
}

double sparsity_factor(std::int64_t step, std::int64_t num_steps, double warmup_fraction) {
  const std::int64_t warmup = share(warmup_fraction, num_steps);
  return warmup > 0 ? std::min(1.0, ratio(step, warmup)) : 1.0;
}

double learning_rate_factor(std::int64_t step, std::int64_t num_steps, double warmup_fraction,
                            double decay_fraction) {
  const std::int64_t warmup = share(warmup_fraction, num_steps),
                     decay = share(decay_fraction, num_steps);
  if (step < warmup) return ratio(step + 1, warmup);
  const std::int64_t start = num_steps - decay;
  if (decay > 0 && step >= start) return std::max(0.0, 1 - ratio(step - start, decay));
  return 1;
}

}  // namespace cresco::dictionaries
