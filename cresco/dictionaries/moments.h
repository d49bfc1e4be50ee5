// Means and variances of columns from blocks of rows, in double: each block about its own mean,
// then merged (Chan, Golub and LeVeque 1983), so that a mean far from 0 costs no digits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cresco::dictionaries {

class ColumnMoments {
 public:
  void add(const at::Tensor& x_BD);  // of any floating type; every block has the same columns
  // A block by its own moments.
  void merge(std::int64_t count, const at::Tensor& mean_D, const at::Tensor& deviation_D);

  std::int64_t count() const { return count_; }
  const at::Tensor& mean_D() const { return mean_D_; }            // double
  const at::Tensor& deviation_D() const { return deviation_D_; }  // sum of (x - mean)^2

  double mean() const;                // of all numbers
  double about_columns() const;       // sum of (x - mean of its column)^2
  double about(double centre) const;  // sum of (x - centre)^2
  double about_mean() const { return about(mean()); }

 private:
  std::int64_t count_ = 0;
  at::Tensor mean_D_, deviation_D_;
};

}  // namespace cresco::dictionaries
