#include "cresco/dictionaries/heldout.h"

#include "cresco/base/require.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cresco::dictionaries {
namespace {

// One head of a crosscoder.
struct SingleHead {
  at::Tensor encoder_DF, encoder_bias_F, decoder_FD, decoder_bias_D;
};

SingleHead head(const CrosscoderParameters& p, std::int64_t k) {
  return {p.encoder_KDF[k], p.encoder_bias_KF[k], p.decoder_KFD[k], p.decoder_bias_KD[k]};
}

SingleHead between(const SingleHead& a, const SingleHead& b, double w) {
  return {at::lerp(a.encoder_DF, b.encoder_DF, w), at::lerp(a.encoder_bias_F, b.encoder_bias_F, w),
          at::lerp(a.decoder_FD, b.decoder_FD, w), at::lerp(a.decoder_bias_D, b.decoder_bias_D, w)};
}

// 1 - var(x - r)/max(var(x), 1e-12), unbiased, over all numbers.
double explained_variance(const at::Tensor& x_VD, const at::Tensor& r_VD) {
  const double residual = (x_VD - r_VD).to(at::kDouble).var().item<double>();
  return 1 - residual / std::max(x_VD.to(at::kDouble).var().item<double>(), 1e-12);
}

constexpr std::int64_t kBlockRows = 1024;

// The rows' reconstruction, block by block: task(p_BF of the trained heads, first row, rows) ->
// r_BD.
template <class Task>
at::Tensor reconstruct_blocks(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                              const Task& task) {
  at::Tensor r_VD = at::empty({x_VKD.size(0), x_VKD.size(2)}, x_VKD.options());
  for (std::int64_t v = 0; v < x_VKD.size(0); v += kBlockRows) {
    const std::int64_t rows = std::min(kBlockRows, x_VKD.size(0) - v);
    r_VD.narrow(0, v, rows)
        .copy_(task(crosscoder.pre_activation(x_VKD.narrow(0, v, rows)), v, rows));
  }
  return r_VD;
}

// With an extra head that reads x_VD: the reconstruction of that head.
at::Tensor reconstruct_with(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                            const SingleHead& extra, const at::Tensor& x_VD) {
  const at::Tensor norm_F = at::linalg_vector_norm(extra.decoder_FD, 2, {-1});
  return reconstruct_blocks(
      crosscoder, x_VKD, [&](const at::Tensor& p_BF, std::int64_t v, std::int64_t rows) {
        const at::Tensor all_BF =
            p_BF + at::addmm(extra.encoder_bias_F, x_VD.narrow(0, v, rows), extra.encoder_DF);
        const at::Tensor shut_BF = (all_BF * norm_F).le(crosscoder.threshold_F());
        return at::addmm(extra.decoder_bias_D, all_BF.masked_fill(shut_BF, 0), extra.decoder_FD);
      });
}

at::Tensor reconstruct_trained(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                               std::int64_t k) {
  return reconstruct_blocks(crosscoder, x_VKD,
                            [&](const at::Tensor& p_BF, std::int64_t, std::int64_t) {
                              return crosscoder.decode(crosscoder.codes(p_BF, k), k);
                            });
}

}  // namespace

std::optional<Neighbours> neighbours_of(std::int64_t step,
                                        const std::vector<std::int64_t>& trained_steps) {
  const auto after = std::lower_bound(trained_steps.begin(), trained_steps.end(), step);
  if (after == trained_steps.end() || after == trained_steps.begin() || *after == step)
    return std::nullopt;
  const auto log_step = [](std::int64_t s) { return std::log1p(static_cast<double>(s)); };
  const double low = log_step(*(after - 1)), high = log_step(*after);
  const std::int64_t index = after - trained_steps.begin();
  return Neighbours{index - 1, index, (log_step(step) - low) / (high - low)};
}

HeldoutQuality measure_heldout(const Dictionary& dictionary, const PreprocessedStack& trained,
                               const at::Tensor& matrix_VD, const at::Tensor& before_VD,
                               const at::Tensor& after_VD, std::int64_t step,
                               const TrajectoryPca* pca) {
  const auto near = neighbours_of(step, dictionary.steps);
  require(near.has_value(), "step {} does not lie between two trained steps", step);
  require(dictionary.activation.kind == ActivationKind::JumpRelu,
          "held-out snapshots need a gate for each head; all heads of a {} dictionary share one",
          name_of(dictionary.activation.kind));
  const auto [before, after, w] = *near;
  const Crosscoder crosscoder(dictionary.parameters);
  const SnapshotStatistics own =
      snapshot_statistics(matrix_VD, dictionary.training.input_preprocess);
  const at::Tensor x_VD = preprocess(matrix_VD, own);
  const SingleHead head_before = head(dictionary.parameters, before),
                   head_after = head(dictionary.parameters, after);

  const auto with_head = [&](const SingleHead& extra) {
    return explained_variance(
        matrix_VD, restore(reconstruct_with(crosscoder, trained.x_VKD, extra, x_VD), own));
  };
  const auto at_own_head = [&](std::int64_t k, const at::Tensor& raw_VD) {
    const auto& statistics = trained.statistics[static_cast<std::size_t>(k)];
    return explained_variance(
        raw_VD, restore(reconstruct_trained(crosscoder, trained.x_VKD, k), statistics));
  };
  double pca_ev = std::numeric_limits<double>::quiet_NaN();
  if (pca) {
    const at::Tensor loadings_RD = at::lerp(pca->loadings_KRD[before], pca->loadings_KRD[after], w);
    pca_ev = explained_variance(matrix_VD, restore(pca->scores_VR.mm(loadings_RD), own));
  }
  return {.step = step,
          .step_before = dictionary.steps[static_cast<std::size_t>(before)],
          .step_after = dictionary.steps[static_cast<std::size_t>(after)],
          .alpha_log = w,
          .synthetic_head = with_head(between(head_before, head_after, w)),
          .nearest_head = with_head(w < 0.5 ? head_before : head_after),
          .direct_interpolation = explained_variance(matrix_VD, at::lerp(before_VD, after_VD, w)),
          .pca = pca_ev,
          .before = at_own_head(before, before_VD),
          .after = at_own_head(after, after_VD)};
}

}  // namespace cresco::dictionaries
