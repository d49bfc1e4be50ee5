#include "cresco/dictionaries/match.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/threads.h"
#include "cresco/dictionaries/assignment.h"
#include "cresco/dictionaries/detail/unit_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace cresco::dictionaries {
namespace {

float bounded(float cosine) { return std::clamp(cosine, -1.0f, 1.0f); }

// What all pairs say: for each row of A its best columns, for each column its best row.
struct Nearest {
  CandidateLists of_a;
  std::vector<Candidate> of_b;  // `column` is the row; -1 where there is none
  double mean = 0, root_mean_square = 0;
};

// s_TT holds the similarities of the tiles that begin at features `a` and `b`. Threads share the
// rows for what is known of rows, then the columns for what is known of columns.
void fold(const at::Tensor& s_TT, const UnitRows& rows_a, std::int64_t a, const UnitRows& rows_b,
          std::int64_t b, Nearest& nearest, std::vector<double>& sum,
          std::vector<double>& squares) {
  constexpr std::int64_t kWorthAThread = 16;
  const float* const values = s_TT.const_data_ptr<float>();
  const std::int64_t end_a = a + rows_a.in_tile(a), end_b = b + rows_b.in_tile(b);
  at::parallel_for(a, end_a, kWorthAThread, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (!rows_a.is_counted(i)) continue;
      const bool zero = rows_a.is_zero(i);
      double row_sum = 0, row_squares = 0;
      for (std::int64_t j = b; j < end_b; ++j) {
        if (!rows_b.is_counted(j)) continue;
        const float value = bounded(values[(i - a) * kTile + j - b]);
        row_sum += value;
        row_squares += static_cast<double>(value) * value;
        if (!zero) nearest.of_a.offer(i, {value, static_cast<std::int32_t>(j)});
      }
      sum[static_cast<std::size_t>(i)] += row_sum;
      squares[static_cast<std::size_t>(i)] += row_squares;
    }
  });
  at::parallel_for(b, end_b, kWorthAThread, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = a; i < end_a; ++i) {
      if (!rows_a.is_counted(i)) continue;
      for (std::int64_t j = begin; j < end; ++j) {
        const float value = bounded(values[(i - a) * kTile + j - b]);
        Candidate& best = nearest.of_b[static_cast<std::size_t>(j)];
        if (rows_b.is_counted(j) && !rows_b.is_zero(j) && (best.column < 0 || value > best.value))
          best = {value, static_cast<std::int32_t>(i)};
      }
    }
  });
}

Nearest find_nearest(const UnitRows& rows_a, const UnitRows& rows_b, std::int64_t candidates,
                     std::int64_t tiles_in_block, Progress& progress) {
  Nearest nearest{CandidateLists(rows_a.size(), rows_b.size(), candidates),
                  std::vector<Candidate>(static_cast<std::size_t>(rows_b.size()), {0, -1})};
  std::vector<double> sum(static_cast<std::size_t>(rows_a.size())), squares(sum);
  progress.begin("nearest", num_tiles(rows_a.size()) * num_tiles(rows_b.size()), "tile");
  std::int64_t done = 0;
  for (std::int64_t begin = 0; begin < rows_a.size(); begin += tiles_in_block * kTile) {
    const std::int64_t end = std::min(begin + tiles_in_block * kTile, rows_a.size());
    std::vector<at::Tensor> block;
    for (std::int64_t a = begin; a < end; a += kTile) block.push_back(rows_a.tile(a));
    for (std::int64_t b = 0; b < rows_b.size(); b += kTile) {
      const at::Tensor tile_b = rows_b.tile(b);
      for (std::size_t t = 0; t < block.size(); ++t)
        fold(block[t].mm(tile_b.t()), rows_a, begin + static_cast<std::int64_t>(t) * kTile, rows_b,
             b, nearest, sum, squares);
      progress.update(done += static_cast<std::int64_t>(block.size()), "");
    }
  }
  progress.end();
  nearest.of_a.sort();
  const double pairs =
      static_cast<double>(rows_a.num_counted()) * static_cast<double>(rows_b.num_counted());
  for (std::size_t i = 0; i < sum.size(); ++i) {
    nearest.mean += sum[i] / pairs;
    nearest.root_mean_square += squares[i] / pairs;
  }
  nearest.root_mean_square = std::sqrt(nearest.root_mean_square);
  return nearest;
}

// The first dictionary's features, ascending, that the null is taken over.
std::vector<std::int64_t> null_sample(const UnitRows& rows, std::int64_t count,
                                      std::uint64_t seed) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < rows.size(); ++i)
    if (rows.is_counted(i)) all.push_back(i);
  if (count >= static_cast<std::int64_t>(all.size())) return all;
  const auto order = permutation(static_cast<std::uint32_t>(all.size()),
                                 RandomStream(seed, "match/null_features"));
  std::vector<std::int64_t> sample;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) sample.push_back(all[order[i]]);
  std::sort(sample.begin(), sample.end());
  return sample;
}

// Each row's numbers in another order, the same in all its heads.
void shuffle_rows(const at::Tensor& rows, std::int64_t num_heads, std::int64_t width,
                  std::int64_t count, std::uint64_t seed, std::uint64_t first_key,
                  const at::Tensor& out) {
  const float* const from = rows.const_data_ptr<float>();
  float* const to = out.mutable_data_ptr<float>();
  parallel_for(count, [&](std::int64_t i) {
    const auto order =
        permutation(static_cast<std::uint32_t>(width),
                    RandomStream(seed, "match/null", first_key + static_cast<std::uint64_t>(i)));
    for (std::int64_t k = 0; k < num_heads; ++k) {
      const std::int64_t head = (i * num_heads + k) * width;
      for (std::int64_t d = 0; d < width; ++d)
        to[head + d] = from[head + order[static_cast<std::size_t>(d)]];
    }
  });
}

struct Null {
  std::vector<std::int64_t> features;
  at::Tensor best_NS;  // N features, S shuffles
  double root_mean_square = 0;
};

Null shuffle_and_match(const UnitRows& rows_a, const UnitRows& rows_b, std::int64_t num_features,
                       std::int64_t shuffles, std::uint64_t seed, Progress& progress) {
  Null null{null_sample(rows_a, num_features, seed), {}};
  const auto N = static_cast<std::int64_t>(null.features.size());
  const at::Tensor sampled = at::empty({N, rows_a.num_heads() * rows_a.width()});
  for (std::int64_t n = 0; n < N; ++n)
    sampled[n].copy_(rows_a.rows(null.features[static_cast<std::size_t>(n)], 1)[0]);

  null.best_NS = at::full({N, shuffles}, -2.0f);
  const at::Tensor shuffled = at::zeros({kTile, sampled.size(1)});
  double squares = 0;
  progress.begin("null", num_tiles(rows_b.size()) * shuffles, "shuffled tile");
  std::int64_t done = 0;
  for (std::int64_t b = 0; b < rows_b.size(); b += kTile) {
    const std::int64_t count = rows_b.in_tile(b);
    const at::Tensor tile = rows_b.tile(b), left_out_T = at::ones({kTile}, at::kBool);
    for (std::int64_t j = 0; j < count; ++j) left_out_T[j] = !rows_b.is_counted(b + j);
    shuffled.zero_();
    for (std::int64_t s = 0; s < shuffles; ++s) {
      shuffle_rows(tile, rows_b.num_heads(), rows_b.width(), count, seed,
                   static_cast<std::uint64_t>(s * rows_b.size() + b), shuffled);
      const at::Tensor s_NT = sampled.mm(shuffled.t()).clamp_(-1, 1).masked_fill_(left_out_T, 0);
      squares += s_NT.square().sum(at::kDouble).item<double>();
      const at::Tensor best_N = null.best_NS.select(1, s);
      best_N.copy_(at::maximum(best_N, s_NT.masked_fill_(left_out_T, -2).amax(1)));
      progress.update(++done, "");
    }
  }
  progress.end();
  const double pairs = static_cast<double>(N) * static_cast<double>(shuffles) *
                       static_cast<double>(rows_b.num_counted());
  null.root_mean_square = std::sqrt(squares / pairs);
  return null;
}

// (r + 1) / (n + 1), r of the n ascending values being `value` or larger.
double p_value(const std::vector<float>& ascending, float value) {
  const auto larger = ascending.end() - std::lower_bound(ascending.begin(), ascending.end(), value);
  return static_cast<double>(larger + 1) / static_cast<double>(ascending.size() + 1);
}

std::vector<FeatureMatch> feature_matches(const UnitRows& rows_a, const Nearest& nearest,
                                          const Assignment& assignment) {
  std::vector<FeatureMatch> features(static_cast<std::size_t>(rows_a.size()));
  for (std::int64_t i = 0; i < rows_a.size(); ++i) {
    FeatureMatch& feature = features[static_cast<std::size_t>(i)];
    feature.counted = rows_a.is_counted(i);
    if (!feature.counted) continue;
    feature.cosine = 0;  // of a row of zeros
    const auto list = nearest.of_a.row(i);
    if (!list.empty()) {
      feature.best = list[0].column;
      feature.cosine = list[0].value;
      feature.mutual = nearest.of_b[static_cast<std::size_t>(feature.best)].column == i;
    }
    if (list.size() > 1) {
      feature.second_best = list[1].column;
      feature.second_cosine = list[1].value;
    }
    feature.assigned = assignment.column_of_row[static_cast<std::size_t>(i)];
    for (const Candidate& candidate : list)
      if (candidate.column == feature.assigned) feature.assigned_cosine = candidate.value;
  }
  return features;
}

void add_p_values(const Null& null, Match& match) {
  for (std::size_t n = 0; n < null.features.size(); ++n) {
    const at::Tensor best_S = std::get<0>(null.best_NS[static_cast<std::int64_t>(n)].sort());
    const float* values = best_S.const_data_ptr<float>();
    FeatureMatch& feature = match.features[static_cast<std::size_t>(null.features[n])];
    feature.p_value = p_value({values, values + best_S.numel()}, feature.cosine);
    match.null_best.insert(match.null_best.end(), values, values + best_S.numel());
  }
  std::sort(match.null_best.begin(), match.null_best.end());
  for (FeatureMatch& feature : match.features)
    if (feature.counted) feature.p_value_pooled = p_value(match.null_best, feature.cosine);
}

std::vector<float> counted_cosines(const Match& match) {
  std::vector<float> cosines;
  for (const FeatureMatch& feature : match.features)
    if (feature.counted) cosines.push_back(feature.cosine);
  return cosines;
}

// From the first bin that holds anything to the last.
std::vector<HistogramBin> histogram_of(const Match& match) {
  constexpr std::int64_t kBins = 2 * kBinsPerUnit;
  const auto shares_of = [&](const std::vector<float>& cosines) {
    std::vector<std::int64_t> counts(kBins);
    for (const float cosine : cosines)
      ++counts[static_cast<std::size_t>(std::clamp<std::int64_t>(
          std::llround(std::floor((cosine + 1.0) * kBinsPerUnit)), 0, kBins - 1))];
    std::vector<double> shares;
    for (const std::int64_t count : counts)
      shares.push_back(static_cast<double>(count) / static_cast<double>(cosines.size()));
    return shares;  // NaN of no cosines
  };
  const auto edge = [](std::size_t bin) {
    return (static_cast<double>(bin) - kBinsPerUnit) / kBinsPerUnit;
  };
  const std::vector<double> features = shares_of(counted_cosines(match)),
                            null = shares_of(match.null_best);
  std::vector<HistogramBin> bins;
  for (std::size_t i = 0; i < features.size(); ++i)
    bins.push_back({edge(i), edge(i + 1), features[i], null[i]});
  const auto holds_some = [](const HistogramBin& bin) { return bin.features > 0 || bin.null > 0; };
  bins.erase(std::find_if(bins.rbegin(), bins.rend(), holds_some).base(), bins.end());
  bins.erase(bins.begin(), std::find_if(bins.begin(), bins.end(), holds_some));
  return bins;
}

double mean_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double share_from(const std::vector<float>& values, double least) {
  const auto count = std::count_if(values.begin(), values.end(), [&](float value) {
    return static_cast<double>(value) >= least;
  });
  return static_cast<double>(count) / static_cast<double>(values.size());
}

Metrics measure(const Match& match, const MatchConfig& config, const UnitRows& rows_a,
                const UnitRows& rows_b, const Nearest& nearest, const Assignment& assignment,
                const Null& null) {
  const std::vector<float> cosines = counted_cosines(match);
  std::vector<float> reverse;
  for (std::int64_t j = 0; j < rows_b.size(); ++j)
    if (rows_b.is_counted(j)) reverse.push_back(nearest.of_b[static_cast<std::size_t>(j)].value);
  double mutual = 0, assigned = 0;
  for (const FeatureMatch& feature : match.features) {
    mutual += feature.mutual;
    assigned += feature.assigned >= 0;
  }
  const double mmcs = mean_of(cosines), mmcs_reverse = mean_of(reverse);
  const auto smaller = static_cast<double>(std::min(rows_a.num_counted(), rows_b.num_counted()));

  Metrics metrics{{"num_heads", rows_a.num_heads()}};
  const auto add = [&](std::string id, auto value) {
    metrics.emplace_back(std::move(id), static_cast<double>(value));
  };
  add("num_a", rows_a.size());
  add("num_b", rows_b.size());
  add("dead_a", rows_a.num_dead());
  add("dead_b", rows_b.num_dead());
  add("zero_a", rows_a.num_zero());
  add("zero_b", rows_b.num_zero());
  add("counted_a", rows_a.num_counted());
  add("counted_b", rows_b.num_counted());
  add("mmcs", mmcs);
  add("mmcs_reverse", mmcs_reverse);
  add("mmcs_symmetric", (mmcs + mmcs_reverse) / 2);
  add("mutual", mutual);
  add("mutual_share", mutual / smaller);
  for (const double threshold : thresholds(config))
    add(fmt::format("share_{}", threshold), share_from(cosines, threshold));
  add("assigned", assigned);
  add("assigned_mean", assignment.total / smaller);
  add("assigned_gap", std::max(0.0, assignment.upper_bound - assignment.total) / smaller);
  add("pair_cosine_mean", nearest.mean);
  add("pair_cosine_rms", nearest.root_mean_square);
  add("null_shuffles", config.shuffles);
  if (config.shuffles == 0) return metrics;
  add("null_features", null.features.size());
  add("null_mean", mean_of(match.null_best));
  add("null_p95", quantile(match.null_best, 0.95));
  add("null_p99", quantile(match.null_best, 0.99));
  add("null_pair_cosine_rms", null.root_mean_square);
  add("share_above_null_p99", share_from(cosines, quantile(match.null_best, 0.99)));
  return metrics;
}

}  // namespace

std::vector<double> thresholds(const MatchConfig& config) {
  std::set<double> all{0.5, 0.7, 0.9};
  all.insert(config.threshold.begin(), config.threshold.end());
  return {all.begin(), all.end()};
}

double quantile(const std::vector<float>& ascending, double q) {
  const double place = q * static_cast<double>(ascending.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, ascending.size() - 1);
  return ascending[low] + (place - static_cast<double>(low)) *
                              (static_cast<double>(ascending[high]) - ascending[low]);
}

double Match::metric(const std::string& id) const {
  for (const auto& [name, value] : metrics)
    if (name == id) return value;
  fail("match: there is no metric '{}'", id);
}

Match match(const StoredDecoder& a, const StoredDecoder& b, const MatchConfig& config,
            std::uint64_t seed, Progress& progress) {
  const MatchPlan plan = plan_match(a, b, config);
  const UnitRows rows_a(a, plan.heads_a, config), rows_b(b, plan.heads_b, config);
  const Nearest nearest =
      find_nearest(rows_a, rows_b, plan.candidates, plan.tiles_in_block, progress);
  progress.begin("assignment", rows_a.size(), "feature");
  const Assignment assignment =
      assign(nearest.of_a, [&](std::int64_t done) { progress.update(done, ""); });
  progress.end();

  Match match{.features = feature_matches(rows_a, nearest, assignment)};
  Null null;
  if (config.shuffles > 0) {
    null = shuffle_and_match(rows_a, rows_b, plan.null_features, config.shuffles, seed, progress);
    add_p_values(null, match);
  }
  match.histogram = histogram_of(match);
  match.metrics = measure(match, config, rows_a, rows_b, nearest, assignment, null);
  return match;
}

}  // namespace cresco::dictionaries
