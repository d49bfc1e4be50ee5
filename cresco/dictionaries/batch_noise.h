// Normal noise on a batch, as a function of (seed, step, place in the batch) alone: there is no
// generator to save.
#pragma once

#include "cresco/base/random.h"

#include <cstdint>

namespace cresco::dictionaries {

struct BatchNoise {
  double deviation = 0;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
};

// To one row of one head; `place` is its number in the batch, row K + head.
template <class Number>
void add_noise(const BatchNoise& noise, std::int64_t place, Number* x, std::int64_t columns) {
  RandomStream random(
      noise.seed, "batch noise",
      static_cast<std::uint64_t>(noise.step) << 32 | static_cast<std::uint64_t>(place));
  for (std::int64_t i = 0; i < columns; ++i)
    x[i] += static_cast<Number>(noise.deviation * random.normal());
}

}  // namespace cresco::dictionaries
