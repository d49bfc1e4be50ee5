// Steers the sparsity coefficient so that codes reach a given mean L0.
//
// After every step past the sparsity warm-up, with l the exponential mean (0.9) of the batches' l0,
// e = ln(l + 1) - ln(target + 1) limited to [-1, 1], and T the steps of the whole training:
//   ln lambda <- ln lambda + (100/T) e + 2 (e - e of the step before)
// The first term lets an l0 that is e times too high for a hundredth of the training multiply
// lambda by e; the second holds back while l0 is already on its way. lambda stays within
// [start/1000, 1000 start].
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
        gain_(100.0 / static_cast<double>(num_steps)) {}

  double coefficient() const { return coefficient_; }
  bool at_bound() const {
    return target_ > 0 && (coefficient_ <= start_ / 1000 || coefficient_ >= start_ * 1000);
  }

  void observe(double l0) {
    if (target_ <= 0) return;
    const bool first = mean_ < 0;
    mean_ = first ? l0 : 0.9 * mean_ + 0.1 * l0;
    const double error = std::clamp(std::log(mean_ + 1) - std::log(target_ + 1), -1.0, 1.0);
    const double change = gain_ * error + (first ? 0 : 2.0 * (error - error_));
    error_ = error;
    coefficient_ = std::clamp(coefficient_ * std::exp(change), start_ / 1000, start_ * 1000);
  }

  nlohmann::ordered_json state() const {
    return {{"coefficient", coefficient_}, {"mean_l0", mean_}, {"error", error_}};
  }
  void load(const nlohmann::ordered_json& state) {
    coefficient_ = state.value("coefficient", coefficient_);
    mean_ = state.value("mean_l0", mean_);
    error_ = state.value("error", error_);
  }

 private:
  double target_ = 0, start_ = 0, coefficient_ = 0, gain_ = 0, mean_ = -1, error_ = 0;
};

}  // namespace cresco::dictionaries
