#include "cresco/dictionaries/moments.h"

#include <ATen/ATen.h>

namespace cresco::dictionaries {

void ColumnMoments::add(const at::Tensor& x_BD) {
  if (x_BD.size(0) == 0) return;
  const at::Tensor x64_BD = x_BD.to(at::kDouble);
  const at::Tensor mean_D = x64_BD.mean(0);
  merge(x_BD.size(0), mean_D, (x64_BD - mean_D).square_().sum(0));
}

void ColumnMoments::merge(std::int64_t count, const at::Tensor& mean_D,
                          const at::Tensor& deviation_D) {
  const auto rows = static_cast<double>(count), before = static_cast<double>(count_);
  count_ += count;
  if (before == 0) {
    mean_D_ = mean_D;
    deviation_D_ = deviation_D;
    return;
  }
  const at::Tensor shift_D = mean_D - mean_D_;
  const double share = rows / (rows + before);
  deviation_D_ = deviation_D_ + deviation_D + shift_D.square() * (before * share);
  mean_D_ = mean_D_ + shift_D * share;
}

double ColumnMoments::mean() const { return mean_D_.mean().item<double>(); }

double ColumnMoments::about_columns() const { return deviation_D_.sum().item<double>(); }

double ColumnMoments::about(double centre) const {
  return about_columns() +
         static_cast<double>(count_) * (mean_D_ - centre).square_().sum().item<double>();
}

}  // namespace cresco::dictionaries
