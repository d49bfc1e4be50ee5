// Features of one dictionary in another: nearest decoder rows, one-to-one assignment, and what
// nearest rows reach by chance. Ids and formulas: docs/metrics.md.
//
// Only slices of the decoders are in memory. All products are of the same shape whatever the
// memory is, so that results do not depend on it by a bit.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/dictionaries/released.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace cresco::dictionaries {

struct MatchConfig {
  std::string heads = "shared", similarity = "concatenated", dead = "counted";
  double dead_share = 0.01;
  std::vector<double> threshold;
  std::int64_t shuffles = 100, null_features = 512;
  std::int64_t block_bytes = std::int64_t{1} << 30, assignment_bytes = std::int64_t{1} << 28;

  void fields(FieldVisitor& v) {
    v.field(
        "heads", heads,
        "decoder rows compared: shared (steps that both have) | all (in order) | final | a list, "
        "range or preset of steps");
    v.field("similarity", similarity,
            "concatenated (cosine over all heads together) | mean (of the heads' cosines)");
    v.field("dead", dead, "counted | excluded: features without a decoder to speak of");
    v.field("dead_share", dead_share,
            "dead: no decoder norm above this share of the largest in its dictionary");
    v.field("threshold", threshold,
            "further cosines whose shares are wanted, beside 0.5, 0.7, 0.9");
    v.field("shuffles", shuffles, "of the second dictionary's rows, for the null; 0: no null");
    v.field(
        "null_features", null_features,
        "features of the first dictionary that the null is taken over, drawn at random; 0: all");
    v.field("block_bytes", block_bytes, "memory for decoder rows of the first dictionary", "bytes");
    v.field("assignment_bytes", assignment_bytes,
            "memory for the assignment's candidates; exact where all pairs fit at 8 bytes each",
            "bytes");
  }
};

// Which heads stand for each other, and what the comparison costs. UsageError for settings out of
// range; Error for dictionaries that cannot be compared.
struct MatchPlan {
  std::vector<std::int64_t> heads_a, heads_b;  // equally many
  std::int64_t null_features = 0;
  std::int64_t candidates = 0;      // per feature, for the assignment
  std::int64_t tiles_in_block = 0;  // of the first dictionary, in memory together
  std::int64_t nearest_flops = 0, null_flops = 0, memory_bytes = 0;
  std::vector<std::string> notes;  // why cosines may mean less than they seem to
};
MatchPlan plan_match(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config);

// Of one feature of the first dictionary. Features are -1 and numbers NaN where there is none: of
// the dead when they are excluded, the second best of a dictionary of one, alone in the assignment,
// outside the null's sample. A feature of zeros has cosine 0 with everything, and no best.
struct FeatureMatch {
  bool counted = true;
  std::int64_t best = -1, second_best = -1, assigned = -1;
  float cosine = kNone, second_cosine = kNone, assigned_cosine = kNone;
  bool mutual = false;
  double p_value = kNone, p_value_pooled = kNone;

  static constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
};

// One bin of the distributions of the best cosine: shares of the features and of the null (NaN
// without one) from `from` on and below `to`. Bins are 1 / kBinsPerUnit wide; the last takes 1 too.
inline constexpr std::int64_t kBinsPerUnit = 50;
struct HistogramBin {
  double from = 0, to = 0, features = 0, null = 0;
};

using Metrics = std::vector<std::pair<std::string, double>>;  // id, value

struct Match {
  std::vector<FeatureMatch> features;  // of the first dictionary, in order
  std::vector<float> null_best;        // ascending: of each sampled feature and shuffle
  std::vector<HistogramBin> histogram;
  Metrics metrics;

  double metric(const std::string& id) const;  // Error when there is none
};

Match match(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config,
            std::uint64_t seed, Progress& progress);

// The thresholds whose shares are measured, ascending.
std::vector<double> thresholds(const MatchConfig& config);

// Of ascending values, q in [0, 1]: linear between the two nearest.
double quantile(const std::vector<float>& ascending, double q);

}  // namespace cresco::dictionaries
