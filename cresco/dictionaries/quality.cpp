#include "cresco/dictionaries/quality.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace cresco::dictionaries {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kNothingToExplain = 1e-12;

double share(const at::Tensor& of) { return of.to(at::kDouble).mean().item<double>(); }

// 1 - error / deviation; NaN where there is nothing to explain.
double explained(double error, double deviation) {
  return deviation > kNothingToExplain ? 1 - error / deviation : kNaN;
}

// The codes of the one definition whose gate is the same for all heads: JumpReLU without the
// decoder's norm, BatchTopK over the whole vocabulary at once. Undefined for the other
// activations, where it is the dictionary's own.
class SharedGate {
 public:
  SharedGate(const Crosscoder& crosscoder, const Rows& rows, std::int64_t block)
      : kind_(crosscoder.activation().kind), threshold_F_(crosscoder.threshold_F()) {
    if (kind_ == ActivationKind::BatchTopK) find_least(crosscoder, rows, block);
  }

  bool differs() const {
    return kind_ == ActivationKind::JumpRelu || kind_ == ActivationKind::BatchTopK;
  }
  at::Tensor codes(const at::Tensor& p_BF) const {
    return p_BF.masked_fill(
        kind_ == ActivationKind::JumpRelu ? p_BF.le(threshold_F_) : p_BF.lt(least_), 0);
  }

 private:
  // The smallest of the (rows k) largest positive pre-activations, from one pass that keeps the
  // largest so far.
  void find_least(const Crosscoder& crosscoder, const Rows& rows, std::int64_t block) {
    const std::int64_t wanted = rows.num_rows * crosscoder.activation().k;
    at::Tensor largest;
    rows.for_blocks(block, [&](std::int64_t first, std::int64_t count) {
      const at::Tensor p_BF = crosscoder.pre_activation(rows.read(first, count));
      const at::Tensor more = p_BF.masked_select(p_BF.gt(least_));
      largest = largest.defined() ? at::cat({largest, more}) : more;
      if (largest.numel() <= wanted) return;
      largest = std::get<0>(largest.topk(wanted, 0, true, /*sorted=*/false));
      least_ = largest.min().item<double>();
    });
  }

  ActivationKind kind_;
  at::Tensor threshold_F_;
  double least_ = 0;  // a code of 0 is none
};

// What is summed of one head.
struct HeadSums {
  ColumnMoments x, error;
  at::Tensor num_open_F;  // int64
  // Of all definitions.
  ColumnMoments shared_error;
  at::Tensor num_shared_F;
  double row_shares = 0;  // of the rows with a deviation: the sum of |error|^2 / |x - mean|^2
  std::int64_t num_row_shares = 0;
};

// What is summed of each row over all heads, for batches of any size; double (V).
struct RowSums {
  at::Tensor error_V, shift_V, square_V, num_open_V;  // shift and square: of x - one mean
};

class Measurement {
 public:
  Measurement(const Crosscoder& crosscoder, const Rows& rows, const QualityOptions& options)
      : crosscoder_(crosscoder), rows_(rows), options_(options) {
    const std::int64_t most =
        rows_of_block(options.block_bytes, quality_row_bytes(crosscoder, options.all_definitions));
    block_ = crosscoder.whole_slices(std::min(most, rows.num_rows));
    heads_.resize(static_cast<std::size_t>(rows.num_heads));
    for (HeadSums& head : heads_) {
      head.num_open_F = at::zeros_like(crosscoder.norm_KF()[0], at::kLong);
      head.num_shared_F = head.num_open_F.clone();
    }
    if (options.all_definitions) prepare_all();
  }

  Quality run() {
    rows_.for_blocks(block_, [&](std::int64_t first, std::int64_t count) {
      add(first, rows_.read(first, count));
      if (options_.done) options_.done(first + count);
    });
    return quality();
  }

 private:
  void prepare_all() {
    mean_KD_ = rows_.mean_KD.defined() ? rows_.mean_KD : column_means();
    one_mean_ = mean_KD_.mean().item<double>();
    shared_gate_.emplace(crosscoder_, rows_, block_);
    for (at::Tensor* sums : {&row_.error_V, &row_.shift_V, &row_.square_V, &row_.num_open_V})
      *sums = at::zeros({rows_.num_rows}, crosscoder_.norm_KF().options().dtype(at::kDouble));
  }

  at::Tensor column_means() const {
    std::vector<ColumnMoments> moments(static_cast<std::size_t>(rows_.num_heads));
    rows_.for_blocks(block_, [&](std::int64_t first, std::int64_t count) {
      const at::Tensor x_BKD = rows_.read(first, count);
      for (std::int64_t k = 0; k < rows_.num_heads; ++k)
        moments[static_cast<std::size_t>(k)].add(x_BKD.select(1, k));
    });
    std::vector<at::Tensor> means;
    for (const ColumnMoments& m : moments) means.push_back(m.mean_D());
    return at::stack(means);
  }

  void add(std::int64_t first, const at::Tensor& x_BKD) {
    const at::Tensor p_BF = crosscoder_.pre_activation(x_BKD);
    at::Tensor a_BF, shared_BF, open_BF;
    if (shared_gate_ && shared_gate_->differs()) shared_BF = shared_gate_->codes(p_BF);
    for (std::int64_t k = 0; k < rows_.num_heads; ++k) {
      HeadSums& head = heads_[static_cast<std::size_t>(k)];
      const at::Tensor x_BD = x_BKD.select(1, k);
      if (k == 0 || !crosscoder_.shares_codes()) {
        a_BF = crosscoder_.codes(p_BF, k);
        open_BF = a_BF.gt(0);
      }
      const at::Tensor error_BD = (crosscoder_.decode(a_BF, k) - x_BD).to(at::kDouble);
      head.num_open_F.add_(open_BF.sum(0));
      head.x.add(x_BD);
      head.error.add(error_BD);
      if (!options_.all_definitions) continue;
      add_rows(head, first, k, x_BD.to(at::kDouble), error_BD, open_BF);
      if (!shared_BF.defined()) continue;
      head.num_shared_F.add_(shared_BF.gt(0).sum(0));
      head.shared_error.add((crosscoder_.decode(shared_BF, k) - x_BD).to(at::kDouble));
    }
  }

  void add_rows(HeadSums& head, std::int64_t first, std::int64_t k, const at::Tensor& x_BD,
                const at::Tensor& error_BD, const at::Tensor& open_BF) {
    const std::int64_t count = x_BD.size(0);
    const at::Tensor error_B = error_BD.square().sum(1);
    const at::Tensor deviation_B = (x_BD - mean_KD_[k]).square_().sum(1);
    const at::Tensor counts_B = deviation_B.gt(kNothingToExplain);
    head.row_shares += (error_B.masked_select(counts_B) / deviation_B.masked_select(counts_B))
                           .sum()
                           .item<double>();
    head.num_row_shares += counts_B.sum().item<std::int64_t>();
    const at::Tensor shifted_BD = x_BD - one_mean_;
    row_.error_V.narrow(0, first, count).add_(error_B);
    row_.shift_V.narrow(0, first, count).add_(shifted_BD.sum(1));
    row_.square_V.narrow(0, first, count).add_(shifted_BD.square().sum(1));
    row_.num_open_V.narrow(0, first, count).add_(open_BF.sum(1));
  }

  // The codes of the shared gate where they are not the dictionary's own.
  const ColumnMoments& shared_error(const HeadSums& head) const {
    return shared_gate_->differs() ? head.shared_error : head.error;
  }
  const at::Tensor& num_shared(const HeadSums& head) const {
    return shared_gate_->differs() ? head.num_shared_F : head.num_open_F;
  }

  SnapshotQuality snapshot(const HeadSums& head, const at::Tensor& rates_F) const {
    const double error = head.error.about(0), deviation = head.x.about_columns();
    SnapshotQuality out{
        explained(error, deviation), rates_F.sum().item<double>(), share(rates_F.lt(1e-4)), {}};
    if (!options_.all_definitions) return out;
    const auto rows = static_cast<double>(rows_.num_rows);
    const ColumnMoments& shared = shared_error(head);
    out.others = {
        {"reconstruction_mse", error / rows / static_cast<double>(rows_.width)},
        {"explained_variance_canon", explained(error, head.x.about(0))},
        {"explained_variance_phase_plane", explained(head.error.about_mean(), head.x.about_mean())},
        {"explained_variance_phase2", explained(shared.about_mean(), head.x.about_mean())},
        {"nrmse_phase2", head.x.about(0) > 0 ? std::sqrt(shared.about(0) / head.x.about(0)) : kNaN},
        {"l0_phase2", num_shared(head).sum().item<double>() / rows},
        {"fvu", deviation > kNothingToExplain ? error / deviation : kNaN},
        {"explained_variance_saelens", explained(error, deviation)},
        {"explained_variance_saelens_legacy",
         head.num_row_shares > 0 ? 1 - head.row_shares / static_cast<double>(head.num_row_shares)
                                 : kNaN},
        {"frac_variance_explained", explained(head.error.about_columns(), deviation)},
        {"dead_rate_1e-6", share(rates_F.le(1e-6))},
        {"dead_rate_never", share(rates_F.eq(0))}};
    return out;
  }

  // Of batches in the order of the rows; the last may be shorter and counts as much as the others.
  std::vector<MetricValue> of_batches() const {
    const std::int64_t batch = options_.batch_rows > 0 ? options_.batch_rows : rows_.num_rows;
    double error = 0, variance = 0, l0 = 0, batches = 0;
    for (std::int64_t v = 0; v < rows_.num_rows; v += batch, ++batches) {
      const auto sum = [&](const at::Tensor& of_V) {
        return of_V.slice(0, v, v + batch).sum().item<double>();
      };
      const auto heads = static_cast<double>(std::min(batch, rows_.num_rows - v) * rows_.num_heads);
      const double numbers = heads * static_cast<double>(rows_.width), shift = sum(row_.shift_V);
      error += sum(row_.error_V) / numbers;
      variance += (sum(row_.square_V) - shift * shift / numbers) / (numbers - 1);
      l0 += sum(row_.num_open_V) / heads;
    }
    return {{"explained_variance_batch", explained(error, variance)},
            {"reconstruction_mse_batch", error / batches},
            {"l0_batch", l0 / batches}};
  }

  std::vector<MetricValue> pooled_others(const Quality& quality) const {
    double error = 0, deviation = 0, square = 0, residual = 0, row_shares = 0, num_row_shares = 0;
    at::Tensor num_shared_F = at::zeros_like(heads_[0].num_open_F);
    for (const HeadSums& head : heads_) {
      error += head.error.about(0);
      deviation += head.x.about_columns();
      square += head.x.about(0);
      residual += head.error.about_columns();
      row_shares += head.row_shares;
      num_row_shares += static_cast<double>(head.num_row_shares);
      num_shared_F += num_shared(head);
    }
    std::vector<MetricValue> out = of_batches();
    const auto add = [&](const char* id, double value) { out.push_back({id, value}); };
    add("explained_variance_canon", explained(error, square));
    const auto over_snapshots = [&](const char* id, const char* mean, const char* min,
                                    const char* max) {
      double sum = 0, least = std::numeric_limits<double>::infinity(), most = -least;
      for (const SnapshotQuality& snapshot : quality.snapshots)
        for (const auto& [name, value] : snapshot.others) {
          if (std::string_view(name) != id) continue;
          sum += value;
          least = std::min(least, value);
          most = std::max(most, value);
        }
      add(mean, sum / static_cast<double>(quality.snapshots.size()));
      add(min, std::isnan(sum) ? kNaN : least);
      add(max, std::isnan(sum) ? kNaN : most);
    };
    over_snapshots("explained_variance_phase_plane", "explained_variance_phase_plane_mean",
                   "explained_variance_phase_plane_min", "explained_variance_phase_plane_max");
    over_snapshots("explained_variance_phase2", "explained_variance_phase2_mean",
                   "explained_variance_phase2_min", "explained_variance_phase2_max");
    over_snapshots("nrmse_phase2", "nrmse_phase2_mean", "nrmse_phase2_min", "nrmse_phase2_max");
    add("l0_phase2",
        num_shared_F.sum().item<double>() / static_cast<double>(rows_.num_rows * rows_.num_heads));
    add("explained_variance_saelens", explained(error, deviation));
    add("explained_variance_saelens_legacy",
        num_row_shares > 0 ? 1 - row_shares / num_row_shares : kNaN);
    add("frac_variance_explained", explained(residual, deviation));
    add("fvu", deviation > kNothingToExplain ? error / deviation : kNaN);
    add("dead_rate_max_1e-4", share(quality.rates_KF.amax(0).lt(1e-4)));
    add("dead_rate_never", share(quality.rates_KF.amax(0).eq(0)));
    add("dead_rate_phase2", share(num_shared_F.eq(0)));
    return out;
  }

  Quality quality() const {
    const auto rows = static_cast<double>(rows_.num_rows);
    const auto heads = static_cast<double>(rows_.num_heads);
    double error = 0, mean = 0, deviation = 0;
    for (const HeadSums& head : heads_) mean += head.x.mean() / heads;
    std::vector<at::Tensor> rates;
    Quality quality;
    for (const HeadSums& head : heads_) {
      error += head.error.about(0);
      deviation += head.x.about(mean);
      rates.push_back(head.num_open_F.to(at::kDouble) / rows);
      quality.snapshots.push_back(snapshot(head, rates.back()));
    }
    quality.rates_KF = at::stack(rates);
    quality.explained_variance_pooled = deviation > 0 ? 1 - error / deviation : 0;
    quality.reconstruction_mse = error / (rows * heads * static_cast<double>(rows_.width));
    quality.l0 = quality.rates_KF.sum().item<double>() / heads;
    quality.dead_rate = share(quality.rates_KF.mean(0).le(1e-6));
    quality.num_rows = rows_.num_rows;
    if (options_.all_definitions) quality.others = pooled_others(quality);
    return quality;
  }

  const Crosscoder& crosscoder_;
  const Rows& rows_;
  const QualityOptions& options_;
  std::int64_t block_ = 0;
  std::vector<HeadSums> heads_;
  at::Tensor mean_KD_;
  double one_mean_ = 0;
  std::optional<SharedGate> shared_gate_;
  RowSums row_;
};

struct Definition {
  const char* id;
  const char* pooled;    // null: not a pooled number
  const char* snapshot;  // null: not of a snapshot
};

constexpr const char* kPhasePlane =
    "1 - var(r - x) / var(x), variances over all numbers, each about its own mean: plots of EV "
    "against L0 over training";
constexpr const char* kPhase2 =
    "1 - var(r' - x) / var(x), r' from a gate that is the same for all heads: the grid of settings";
constexpr const char* kNrmsePhase2 =
    "|r' - x| / |x|, r' from a gate that is the same for all heads";
constexpr const char* kL0Phase2 =
    "codes that are not 0 with the gate p > theta, without the decoder's norm, by rows and heads";
constexpr const char* kCanon =
    "1 - sum (r - x)^2 / sum x^2: the released dictionaries' recomputed quality";
constexpr const char* kFvu = "sum (r - x)^2 / sum (x - column mean)^2: sparsify";
constexpr const char* kLegacy =
    "mean over rows of 1 - |r - x|^2 / |x - column mean|^2: explained_variance of SAELens before "
    "5.8.0, explained_variance_legacy since";
constexpr const char* kSaeLens =
    "1 - sum (r - x)^2 / sum (x - column mean)^2: SAELens from 6.45.1 on";
constexpr const char* kDictionaryLearning =
    "1 - sum var_column(r - x) / sum var_column(x), the residual's mean removed: "
    "dictionary_learning, SAEBench";
constexpr const char* kNever = "share of the features whose gate is open on no row";

constexpr Definition kDefinitions[] = {
    {"explained_variance_pooled", "1 - sum (r - x)^2 / sum (x - one mean)^2: ours", nullptr},
    {"explained_variance", nullptr, "1 - sum (r - x)^2 / sum (x - column mean)^2: ours"},
    {"l0", "open gates by rows and heads: ours, exact", "open gates by rows: ours, exact"},
    {"reconstruction_mse", "mean of (r - x)^2 over all numbers", "mean of (r - x)^2"},
    {"dead_rate_1e-6", "share of the features open in at most 1e-6 of the rows and heads: ours",
     "share of the features open in at most 1e-6 of the rows"},
    {"dead_rate_1e-4", nullptr,
     "share of the features open in fewer than 1e-4 of the rows: ours, and evaluations by "
     "snapshot"},
    {"explained_variance_batch",
     "1 - sum over batches of mse / sum over batches of variance: the architecture comparison and "
     "older released numbers",
     nullptr},
    {"reconstruction_mse_batch", "mean over batches of the batch's mse: as above", nullptr},
    {"l0_batch", "mean over batches of the batch's L0: as above", nullptr},
    {"explained_variance_canon", kCanon, kCanon},
    {"explained_variance_phase_plane", nullptr, kPhasePlane},
    {"explained_variance_phase_plane_mean", "mean of the snapshots' explained_variance_phase_plane",
     nullptr},
    {"explained_variance_phase_plane_min", "least of them", nullptr},
    {"explained_variance_phase_plane_max", "largest of them", nullptr},
    {"explained_variance_phase2", nullptr, kPhase2},
    {"explained_variance_phase2_mean", "mean of the snapshots' explained_variance_phase2", nullptr},
    {"explained_variance_phase2_min", "least of them", nullptr},
    {"explained_variance_phase2_max", "largest of them", nullptr},
    {"nrmse_phase2", nullptr, kNrmsePhase2},
    {"nrmse_phase2_mean", "mean of the snapshots' nrmse_phase2", nullptr},
    {"nrmse_phase2_min", "least of them", nullptr},
    {"nrmse_phase2_max", "largest of them", nullptr},
    {"l0_phase2", kL0Phase2, kL0Phase2},
    {"explained_variance_saelens", kSaeLens, kSaeLens},
    {"explained_variance_saelens_legacy", kLegacy, kLegacy},
    {"frac_variance_explained", kDictionaryLearning, kDictionaryLearning},
    {"fvu", kFvu, kFvu},
    {"dead_rate_max_1e-4",
     "share of the features open in fewer than 1e-4 of the rows of every snapshot: analysis tables",
     nullptr},
    {"dead_rate_never", kNever, kNever},
    {"dead_rate_phase2", "share of the features that the gate of l0_phase2 never opens", nullptr}};

}  // namespace

std::int64_t quality_row_bytes(const Crosscoder& crosscoder, bool all_definitions) {
  const CrosscoderParameters& p = crosscoder.parameters();
  // p, its product with the norms, mask and code (and the shared gate's), with a copy for the
  // counts; the row itself; of one head what is stored, x, r, and doubles that are made of them.
  return 4 * ((all_definitions ? 6 : 5) * p.num_features() + p.num_heads() * p.width() +
              (all_definitions ? 24 : 16) * p.width());
}

Quality measure_quality(const Crosscoder& crosscoder, const Rows& rows,
                        const QualityOptions& options) {
  require_usage(options.block_bytes > 0, "block_bytes is {}, expected more than 0",
                options.block_bytes);
  require_usage(options.batch_rows >= 0, "batch_rows is {}, expected 0 or more",
                options.batch_rows);
  return Measurement(crosscoder, rows, options).run();
}

Quality measure_quality(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                        std::int64_t block_bytes) {
  return measure_quality(crosscoder, rows_in_memory(x_VKD), {.block_bytes = block_bytes});
}

nlohmann::ordered_json quality_json(const Quality& quality,
                                    const std::vector<std::int64_t>& steps) {
  nlohmann::ordered_json out;
  out["pooled"] = {{"explained_variance_pooled", quality.explained_variance_pooled},
                   {"l0", quality.l0},
                   {"reconstruction_mse", quality.reconstruction_mse},
                   {"dead_rate_1e-6", quality.dead_rate}};
  for (const auto& [id, value] : quality.others) out["pooled"][id] = value;
  out["snapshots"] = nlohmann::ordered_json::array();
  for (std::size_t k = 0; k < steps.size(); ++k) {
    const SnapshotQuality& snapshot = quality.snapshots[k];
    nlohmann::ordered_json row = {{"step", steps[k]},
                                  {"explained_variance", snapshot.explained_variance},
                                  {"l0", snapshot.l0},
                                  {"dead_rate_1e-4", snapshot.dead_rate}};
    for (const auto& [id, value] : snapshot.others) row[id] = value;
    out["snapshots"].push_back(std::move(row));
  }
  return out;
}

std::string definition_of(const std::string& id, bool pooled) {
  for (const Definition& definition : kDefinitions)
    if (id == definition.id)
      if (const char* text = pooled ? definition.pooled : definition.snapshot) return text;
  fail("'{}' is no metric of {}", id, pooled ? "all snapshots" : "a snapshot");
}

}  // namespace cresco::dictionaries
