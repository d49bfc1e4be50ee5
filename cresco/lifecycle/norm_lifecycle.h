// The life of a feature by the norm of its decoder row: N[k,f], and rho[k,f] = N[k,f] / max over k.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace cresco::lifecycle {

enum class Profile { Persistent, Transitional, EarlyDecaying, LateEmerging, Mixed };
std::string name_of(Profile profile);  // "persistent", "transitional", "early-decaying", ...

struct NormLifecycle {
  bool alive;         // max N > 0.01 of the largest norm in the dictionary
  std::int64_t peak;  // the first snapshot with the largest norm
  // Of features that are alive: the first snapshot with rho >= 0.5 unless that is snapshot 0, and
  // the last one unless that is the final snapshot.
  std::optional<std::int64_t> born, died;
  Profile profile = Profile::Mixed;  // of features that are alive
};

inline constexpr double kAliveShare = 0.01, kAliveLevel = 0.5;

// Position of each step on the axis log10(step + 1), from 0 for the first to 1 for the last.
std::vector<double> log_time(const std::vector<std::int64_t>& steps);

// The profile of one feature, by its rho (rounded to half precision first, as published fractions
// are): early, middle and late are means over tau <= 0.35, between, and tau >= 0.65; the first that
// fits of
//   persistent     (share of snapshots with rho >= 0.5 at least 0.70 and range of rho at most 0.35)
//                  or min(early, middle, late) >= 0.45
//   transitional   peak of the middle >= 0.75 and 0.35 above early and late, late <= 0.30, alive
//   over at
//                  most 0.35 of the axis, peak strictly inside the middle
//   early-decaying early >= 0.50, early - late >= 0.30, peak at tau <= 0.45
//   late-emerging  late >= 0.50, late - early >= 0.30, peak at tau >= 0.55
//   mixed
Profile profile_of(const std::vector<double>& norms, const std::vector<double>& tau);

std::vector<NormLifecycle> norm_lifecycles(const at::Tensor& norms_KF,
                                           const std::vector<std::int64_t>& steps);

}  // namespace cresco::lifecycle
