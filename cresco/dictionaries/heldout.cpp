#include "cresco/dictionaries/heldout.h"

#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/quality.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace cresco::dictionaries {
namespace {

constexpr std::int64_t kPcaRank = 50;

double log_share(std::int64_t step, std::int64_t low, std::int64_t high) {
  const auto log_step = [](std::int64_t s) { return std::log1p(static_cast<double>(s)); };
  return (log_step(step) - log_step(low)) / (log_step(high) - log_step(low));
}

// 1 - var(error)/max(var(x), 1e-12), unbiased, over all numbers, each about its own mean.
double explained_variance(const ColumnMoments& x, const ColumnMoments& error) {
  const double numbers = static_cast<double>(x.count() * x.mean_D().numel()) - 1;
  return 1 - error.about_mean() / numbers / std::max(x.about_mean() / numbers, 1e-12);
}

// A trained head that is a neighbour of a held-out step, at its own rows.
struct Ceiling {
  ColumnMoments x, error, raw_error;
};

// The residuals of one way to reconstruct a held-out matrix.
struct Residual {
  ColumnMoments error;
  at::Tensor norm_V;
  void add(const at::Tensor& error_BD, std::int64_t first) {
    error.add(error_BD);
    norm_V.narrow(0, first, error_BD.size(0)).copy_(error_BD.norm(2, 1));
  }
};

class Measurement {
 public:
  Measurement(const Dictionary& dictionary, const StackRows& trained,
              const trajectories::Stack& held_out, const HeldoutOptions& options)
      : dictionary_(dictionary),
        crosscoder_(dictionary.crosscoder()),
        trained_(trained),
        options_(options),
        steps_(heldout_steps(held_out, trained.stack(), dictionary.steps)),
        near_(steps_.near),
        held_out_(held_out, steps_.snapshots, dictionary.training.input_preprocess,
                  trained.block_bytes()) {
    const CrosscoderParameters& p = crosscoder_.parameters();
    // Beside what a block takes by itself: the new head's p, norms, gate and codes, and rows.
    const std::int64_t row_bytes =
        quality_row_bytes(crosscoder_, false) + 4 * (4 * p.num_features() + 16 * p.width());
    block_ = crosscoder_.whole_slices(
        std::min(rows_of_block(trained.block_bytes(), row_bytes), trained.num_rows()));
    for (std::size_t i = 0; i < near_.size(); ++i) {
      norms_.push_back(norm_between(near_[i]));
      residuals_.emplace_back(5);
      for (Residual& residual : residuals_.back())
        residual.norm_V = at::empty({trained.num_rows()}, at::kDouble);
      row_norms_.push_back(at::empty({trained.num_rows()}, at::kDouble));
      ceilings_[near_[i].before];
      ceilings_[near_[i].after];
    }
    if (options_.at_l0) at_l0_.resize(near_.size());
  }

  std::vector<HeldoutQuality> run() {
    const Rows rows = trained_.rows();
    pca_ = row_directions(rows, kPcaRank, options_.seed,
                          rows_of_block(trained_.block_bytes(), 6 * 4 * rows.width));
    rows.for_blocks(block_, [&](std::int64_t first, std::int64_t count) {
      const at::Tensor x_BKD = rows.read(first, count);
      const at::Tensor p_BF = crosscoder_.pre_activation(x_BKD);
      raw_.clear();
      for (auto& [k, ceiling] : ceilings_) add_ceiling(ceiling, k, p_BF, x_BKD.select(1, k), first);
      for (std::size_t i = 0; i < near_.size(); ++i) add(i, p_BF, first, count);
      if (options_.done) options_.done(first + count);
    });
    std::vector<HeldoutQuality> all;
    for (std::size_t i = 0; i < near_.size(); ++i) all.push_back(quality(i));
    return all;
  }

 private:
  // |(1 - w) W_D[before] + w W_D[after]| by feature, some features at a time.
  at::Tensor norm_between(const Neighbours& near) const {
    const at::Tensor& decoder_KFD = crosscoder_.parameters().decoder_KFD;
    constexpr std::int64_t kFeatures = 1024;
    std::vector<at::Tensor> norms;
    for (std::int64_t f = 0; f < decoder_KFD.size(1); f += kFeatures) {
      const auto part = [&](std::int64_t k) { return decoder_KFD[k].slice(0, f, f + kFeatures); };
      norms.push_back(at::linalg_vector_norm(
          at::lerp(part(near.before), part(near.after), near.weight), 2, {-1}));
    }
    return at::cat(norms);
  }

  const at::Tensor& raw(std::int64_t k, std::int64_t first, std::int64_t count) {
    at::Tensor& rows = raw_[k];
    if (!rows.defined()) rows = trained_.raw(k, first, count);
    return rows;
  }

  void add_ceiling(Ceiling& ceiling, std::int64_t k, const at::Tensor& p_BF, const at::Tensor& x_BD,
                   std::int64_t first) {
    const at::Tensor r_BD = crosscoder_.decode(crosscoder_.codes(p_BF, k), k);
    ceiling.x.add(x_BD);
    ceiling.error.add((r_BD - x_BD).to(at::kDouble));
    ceiling.raw_error.add(
        (restore(r_BD, trained_.statistics(k)) - raw(k, first, x_BD.size(0))).to(at::kDouble));
  }

  // The codes that a new head makes of all pre-activations.
  at::Tensor codes(const at::Tensor& p_BF, const at::Tensor& norm_F) const {
    if (crosscoder_.shares_codes()) return crosscoder_.codes(p_BF, 0);
    return p_BF.masked_fill((p_BF * norm_F).le(crosscoder_.threshold_F()), 0);
  }

  void add(std::size_t i, const at::Tensor& p_BF, std::int64_t first, std::int64_t count) {
    const auto h = static_cast<std::int64_t>(i);
    const auto [before, after, w] = near_[i];
    const CrosscoderParameters& p = crosscoder_.parameters();
    const at::Tensor raw_BD = held_out_.raw(h, first, count);
    const SnapshotStatistics& own = held_out_.statistics(h);
    const at::Tensor x_BD = preprocess(raw_BD, own);
    row_norms_[i].narrow(0, first, count).copy_(raw_BD.to(at::kDouble).norm(2, 1));
    const auto add = [&](Residual& residual, const at::Tensor& restored_BD) {
      residual.add((restored_BD - raw_BD).to(at::kDouble), first);
    };
    // A head that is a mixture reads and writes the mixture of what its two parts do: no mixed
    // matrix has to stand in memory.
    const auto read = [&](std::int64_t k) {
      return at::addmm(p.encoder_bias_KF[k], x_BD, p.encoder_KDF[k]);
    };
    const at::Tensor by_before_BF = read(before), by_after_BF = read(after);
    const at::Tensor mixed_BF = codes(p_BF + at::lerp(by_before_BF, by_after_BF, w), norms_[i]);
    add(residuals_[i][0], restore(at::lerp(crosscoder_.decode(mixed_BF, before),
                                           crosscoder_.decode(mixed_BF, after), w),
                                  own));
    const std::int64_t nearest = w < 0.5 ? before : after;
    const at::Tensor nearest_BF =
        codes(p_BF + (w < 0.5 ? by_before_BF : by_after_BF), crosscoder_.norm_KF()[nearest]);
    add(residuals_[i][1], restore(crosscoder_.decode(nearest_BF, nearest), own));
    add(residuals_[i][2], at::lerp(raw(before, first, count), raw(after, first, count), w));
    const std::int64_t last = trained_.num_heads() - 1;
    add(residuals_[i][3], at::lerp(raw(0, first, count), raw(last, first, count),
                                   log_share(held_out_.step(h), dictionary_.steps.front(),
                                             dictionary_.steps.back())));
    const at::Tensor about_BD = x_BD - pca_.mean_D;
    add(residuals_[i][4],
        restore(about_BD.mm(pca_.direction_DR).mm(pca_.direction_DR.t()) + pca_.mean_D, own));
    if (options_.at_l0) {
      const at::Tensor loadings_RD =
          at::lerp(options_.at_l0->loadings_KRD[before], options_.at_l0->loadings_KRD[after], w);
      const at::Tensor scores_BR = options_.at_l0->scores_VR.narrow(0, first, count);
      at_l0_[i].add((restore(scores_BR.mm(loadings_RD), own) - raw_BD).to(at::kDouble));
    }
  }

  HeldoutQuality quality(std::size_t i) const {
    const auto [before, after, w] = near_[i];
    const auto h = static_cast<std::int64_t>(i);
    const ColumnMoments& x = held_out_.moments(h);
    const auto of = [&](std::size_t way) {
      return explained_variance(x, residuals_[i][way].error);
    };
    const Ceiling &low = ceilings_.at(before), &high = ceilings_.at(after);
    std::vector<at::Tensor> norms;
    for (const Residual& residual : residuals_[i]) norms.push_back(residual.norm_V);
    return {.step = held_out_.step(h),
            .step_before = dictionary_.steps[static_cast<std::size_t>(before)],
            .step_after = dictionary_.steps[static_cast<std::size_t>(after)],
            .alpha_log = w,
            .synthetic_head = of(0),
            .nearest_head = of(1),
            .direct_interpolation = of(2),
            .endpoint = of(3),
            .pca_at_l0 = options_.at_l0 ? explained_variance(x, at_l0_[i])
                                        : std::numeric_limits<double>::quiet_NaN(),
            .pca_rank50 = of(4),
            .before = explained_variance(trained_.moments(before), low.raw_error),
            .after = explained_variance(trained_.moments(after), high.raw_error),
            .before_normalized = explained_variance(low.x, low.error),
            .after_normalized = explained_variance(high.x, high.error),
            .residual_norm_5V = at::stack(norms),
            .row_norm_V = row_norms_[i]};
  }

  const Dictionary& dictionary_;
  Crosscoder crosscoder_;
  const StackRows& trained_;
  const HeldoutOptions& options_;
  const HeldoutSteps steps_;
  const std::vector<Neighbours>& near_;  // of each held-out step
  StackRows held_out_;
  std::int64_t block_ = 0;
  RowDirections pca_;
  std::vector<at::Tensor> norms_;
  std::vector<std::vector<Residual>> residuals_;
  std::vector<ColumnMoments> at_l0_;
  std::vector<at::Tensor> row_norms_;
  std::map<std::int64_t, Ceiling> ceilings_;  // by trained head
  std::map<std::int64_t, at::Tensor> raw_;    // of the block, by trained head
};

}  // namespace

std::optional<Neighbours> neighbours_of(std::int64_t step,
                                        const std::vector<std::int64_t>& trained_steps) {
  const auto after = std::lower_bound(trained_steps.begin(), trained_steps.end(), step);
  if (after == trained_steps.end() || after == trained_steps.begin() || *after == step)
    return std::nullopt;
  const std::int64_t index = after - trained_steps.begin();
  return Neighbours{index - 1, index, log_share(step, *(after - 1), *after)};
}

HeldoutSteps heldout_steps(const trajectories::Stack& held_out, const trajectories::Stack& trained,
                           const std::vector<std::int64_t>& trained_steps) {
  const std::string where = held_out.path().string();
  require(held_out.num_rows() == trained.num_rows() && held_out.width() == trained.width(),
          "{}: holds {} x {} matrices, {} holds {} x {}", where, held_out.num_rows(),
          held_out.width(), trained.path().string(), trained.num_rows(), trained.width());
  HeldoutSteps steps;
  for (std::int64_t k = 0; k < held_out.num_snapshots(); ++k) {
    const std::int64_t step = held_out.steps()[static_cast<std::size_t>(k)];
    if (const auto near = neighbours_of(step, trained_steps)) {
      steps.near.push_back(*near);
      steps.snapshots.push_back(k);
    } else {
      steps.left_out.push_back(step);
    }
  }
  require(!steps.snapshots.empty(), "{}: has no step between the trained ones {}; it has {}", where,
          list_steps(trained_steps), list_steps(held_out.steps()));
  return steps;
}

std::vector<HeldoutQuality> measure_heldout(const Dictionary& dictionary, const StackRows& trained,
                                            const trajectories::Stack& held_out,
                                            const HeldoutOptions& options) {
  return Measurement(dictionary, trained, held_out, options).run();
}

RowDirections row_directions(const Rows& rows, std::int64_t rank, std::uint64_t seed,
                             std::int64_t block_rows) {
  const std::int64_t V = rows.num_rows, D = rows.width;
  const std::int64_t each =
      std::min(V, std::max<std::int64_t>(2048, std::min<std::int64_t>(5000, V / 16)));
  // Covariance of the drawn rows, about a point near their mean so that no digit is lost.
  const at::Tensor near_D = rows.mean_KD.mean(0);
  at::Tensor sum_D = at::zeros({D}, at::kDouble), square_DD = at::zeros({D, D}, at::kDouble);
  for (std::int64_t k = 0; k < rows.num_heads; ++k) {
    const auto order =
        permutation(static_cast<std::uint32_t>(V),
                    RandomStream(seed, "heldout/rows", static_cast<std::uint64_t>(k)));
    std::vector<std::int64_t> drawn(order.begin(), order.begin() + each);
    std::sort(drawn.begin(), drawn.end());
    for (auto at = drawn.begin(); at != drawn.end();) {
      const std::int64_t first = *at / block_rows * block_rows;
      const auto end = std::lower_bound(at, drawn.end(), first + block_rows);
      std::vector<std::int64_t> places(at, end);
      for (std::int64_t& place : places) place -= first;
      const at::Tensor x_BD = rows.read_head(k, first, std::min(block_rows, V - first))
                                  .index_select(0, at::tensor(places, at::kLong))
                                  .to(at::kDouble) -
                              near_D;
      sum_D += x_BD.sum(0);
      square_DD.addmm_(x_BD.t(), x_BD);
      at = end;
    }
  }
  const auto count = static_cast<double>(each * rows.num_heads);
  square_DD -= at::outer(sum_D, sum_D) / count;
  const std::int64_t R = std::min(rank, D);
  at::Tensor range = at::empty({D, R});
  RandomStream(seed, "heldout/range")
      .fill_normal({range.mutable_data_ptr<float>(), static_cast<std::size_t>(range.numel())}, 0,
                   1);
  at::Tensor direction_DR = range.to(at::kDouble);
  for (int i = 0; i < 6; ++i) direction_DR = std::get<0>(at::linalg_qr(square_DD.mm(direction_DR)));
  return {(near_D + sum_D / count).to(at::kFloat), direction_DR.to(at::kFloat)};
}

}  // namespace cresco::dictionaries
