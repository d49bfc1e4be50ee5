#include "cresco/dictionaries/quality.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>

namespace cresco::dictionaries {
namespace {

double share_at_most(const at::Tensor& rates, double limit) {
  return rates.le(limit).to(at::kDouble).mean().item<double>();
}

// Sums over the rows seen so far, in double.
struct Sums {
  at::Tensor squared_error_K, squared_deviation_K;  // the latter about the column means
  double squared_deviation = 0;                     // about one mean of everything
  at::Tensor num_open_KF;                           // int64
};

// Column means (K,D) in double, a head at a time.
at::Tensor column_means(const at::Tensor& x_VKD) {
  std::vector<at::Tensor> means;
  for (std::int64_t k = 0; k < x_VKD.size(1); ++k)
    means.push_back(x_VKD.select(1, k).mean(0, false, at::kDouble));
  return at::stack(means);
}

void add_block(Sums& sums, const Crosscoder& crosscoder, const at::Tensor& x_BKD,
               const at::Tensor& mean_KD, double mean) {
  const at::Tensor p_BF = crosscoder.pre_activation(x_BKD);
  at::Tensor a_BF;
  for (std::int64_t k = 0; k < x_BKD.size(1); ++k) {
    const at::Tensor x_BD = x_BKD.select(1, k), x64_BD = x_BD.to(at::kDouble);
    if (k == 0 || !crosscoder.shares_codes()) a_BF = crosscoder.codes(p_BF, k);
    const at::Tensor r_BD = crosscoder.decode(a_BF, k);
    sums.num_open_KF[k].add_(a_BF.gt(0).sum(0));
    sums.squared_error_K[k].add_((r_BD - x_BD).to(at::kDouble).square_().sum());
    sums.squared_deviation_K[k].add_((x64_BD - mean_KD[k]).square_().sum());
    sums.squared_deviation += (x64_BD - mean).square_().sum().item<double>();
  }
}

std::int64_t rows_of_block(const at::Tensor& x_VKD, std::int64_t num_features,
                           std::int64_t block_bytes) {
  const std::int64_t row_bytes =
      4 * (4 * num_features + x_VKD.size(1) * x_VKD.size(2) + 6 * x_VKD.size(2));
  return std::clamp<std::int64_t>(block_bytes / row_bytes, 1, x_VKD.size(0));
}

}  // namespace

Quality measure_quality(const Crosscoder& crosscoder, const at::Tensor& x_VKD,
                        std::int64_t block_bytes) {
  const auto V = x_VKD.size(0), K = x_VKD.size(1), D = x_VKD.size(2);
  const auto F = crosscoder.parameters().num_features();
  const auto doubles = x_VKD.options().dtype(at::kDouble);
  const at::Tensor mean_KD = column_means(x_VKD);
  const double mean = mean_KD.mean().item<double>();
  Sums sums{at::zeros({K}, doubles), at::zeros({K}, doubles), 0,
            at::zeros({K, F}, doubles.dtype(at::kLong))};
  const std::int64_t block = crosscoder.whole_slices(rows_of_block(x_VKD, F, block_bytes));
  for (std::int64_t v = 0; v < V; v += block)
    add_block(sums, crosscoder, x_VKD.narrow(0, v, std::min(block, V - v)), mean_KD, mean);

  const double rows = static_cast<double>(V), heads = static_cast<double>(K);
  const double error = sums.squared_error_K.sum().item<double>();
  Quality quality;
  quality.rates_KF = sums.num_open_KF.to(at::kDouble) / rows;
  quality.explained_variance_pooled =
      sums.squared_deviation > 0 ? 1 - error / sums.squared_deviation : 0;
  quality.reconstruction_mse = error / (rows * heads * static_cast<double>(D));
  quality.l0 = quality.rates_KF.sum().item<double>() / heads;
  quality.dead_rate = share_at_most(quality.rates_KF.mean(0), 1e-6);
  quality.num_rows = V;
  for (std::int64_t k = 0; k < K; ++k) {
    const double deviation = sums.squared_deviation_K[k].item<double>();
    quality.snapshots.push_back(
        {.explained_variance = deviation > 1e-12
                                   ? 1 - sums.squared_error_K[k].item<double>() / deviation
                                   : std::numeric_limits<double>::quiet_NaN(),
         .l0 = quality.rates_KF[k].sum().item<double>(),
         .dead_rate = quality.rates_KF[k].lt(1e-4).to(at::kDouble).mean().item<double>()});
  }
  return quality;
}

nlohmann::ordered_json quality_json(const Quality& quality,
                                    const std::vector<std::int64_t>& steps) {
  nlohmann::ordered_json out;
  out["pooled"] = {{"explained_variance_pooled", quality.explained_variance_pooled},
                   {"l0", quality.l0},
                   {"reconstruction_mse", quality.reconstruction_mse},
                   {"dead_rate_1e-6", quality.dead_rate}};
  out["snapshots"] = nlohmann::ordered_json::array();
  for (std::size_t k = 0; k < steps.size(); ++k)
    out["snapshots"].push_back({{"step", steps[k]},
                                {"explained_variance", quality.snapshots[k].explained_variance},
                                {"l0", quality.snapshots[k].l0},
                                {"dead_rate_1e-4", quality.snapshots[k].dead_rate}});
  return out;
}

}  // namespace cresco::dictionaries
