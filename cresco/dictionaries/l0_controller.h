// Steers the sparsity coefficient so that codes reach a given mean L0.
//
// After every step past the sparsity warm-up, with l the exponential mean (0.9) of the batches' l0
// and T the steps of the whole training:
//   ln lambda <- ln lambda + (20/T) clamp(ln(l + 1) - ln(target + 1), -1, 1)
// so that an l0 which is e times too high for a twentieth of the training multiplies lambda by e.
// lambda stays within [start/1000, 1000 start].
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace cresco::dictionaries {

class L0Controller {
 public:
  L0Controller() = default;
  // target 0: the coefficient stays as it is.
  L0Controller(double target, double start, std::int64_t num_steps)
      : target_(target),
        start_(start),
        coefficient_(start),
        gain_(20.0 / static_cast<double>(num_steps)) {}

  double coefficient() const { return coefficient_; }

  void observe(double l0) {
    if (target_ <= 0) return;
    mean_ = mean_ < 0 ? l0 : 0.9 * mean_ + 0.1 * l0;
    const double error = std::log(mean_ + 1) - std::log(target_ + 1);
    coefficient_ = std::clamp(coefficient_ * std::exp(gain_ * std::clamp(error, -1.0, 1.0)),
                              start_ / 1000, start_ * 1000);
  }

  nlohmann::ordered_json state() const {
    return {{"coefficient", coefficient_}, {"mean_l0", mean_}};
  }
  void load(const nlohmann::ordered_json& state) {
    coefficient_ = state.value("coefficient", coefficient_);
    mean_ = state.value("mean_l0", mean_);
  }

 private:
  double target_ = 0, start_ = 0, coefficient_ = 0, gain_ = 0, mean_ = -1;
};

}  // namespace cresco::dictionaries
