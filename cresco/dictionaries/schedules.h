// What changes over a training of T steps, as functions of the step, which counts from 0.
#pragma once

#include <cstdint>

namespace cresco::dictionaries {

// Batches of one pass over the rows; the last may be shorter.
std::int64_t steps_per_epoch(std::int64_t num_rows, std::int64_t batch_size);

// min(1, step / W), W = floor(fraction T); 1 without warm-up. The first step has no sparsity term.
double sparsity_factor(std::int64_t step, std::int64_t num_steps, double warmup_fraction);

// W = floor(warmup T), N = floor(decay T), S = T - N:
//   (step + 1) / W for step < W;  max(0, 1 - (step - S) / N) for step >= S when N > 0;  else 1.
double learning_rate_factor(std::int64_t step, std::int64_t num_steps, double warmup_fraction,
                            double decay_fraction);

}  // namespace cresco::dictionaries
