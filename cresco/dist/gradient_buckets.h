// Gradients of data-parallel ranks, summed while the backward pass still computes others.
//
// The gradients lie one after the other in flat memory, the last parameter's first, as a backward
// pass makes them, and are cut into buckets. When a bucket's last gradient is there its sum over
// the ranks begins (Ranks::start_sum says what overlaps). Buckets begin in their order on every
// rank, whatever order gradients come in.
#pragma once

#include "cresco/dist/ranks.h"

#include <memory>
#include <vector>

namespace cresco::dist {

class GradientBuckets {
 public:
  // `parameters` are leaves of one type on one device. Their .grad become views of the buckets,
  // zero; they are to stay that (accumulate, don't replace). A bucket is closed when it has
  // `bucket_bytes` or more. With one rank nothing is ever sent and no hooks are set. Leave out what
  // is frozen: a parameter that no backward pass reaches holds up the buckets after its own.
  GradientBuckets(std::vector<at::Tensor> parameters, Ranks& ranks,
                  std::int64_t bucket_bytes = std::int64_t{16} << 20);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // Of a step: zero(); a backward pass for each micro-batch; expect() before the last of them;
  // wait() after it.
  void zero();
  // From now on a gradient that autograd has added to is complete: the bucket may go.
  void expect();
  // The gradient of parameter i (of the constructor's) is complete: for those that something else
  // than autograd writes. Where both write (a tied readout) autograd has to be the last, and says
  // so by itself.
  void ready(std::size_t i);
  // Sends what has not been sent (a parameter that took no part has a gradient of zero) and waits
  // for all: every .grad is then the sum over the ranks.
  void wait();

  std::size_t num_buckets() const { return buckets_.size(); }
  // All gradients, flat, with zeros where they are padded to 64 bytes.
  const at::Tensor& flat() const { return flat_; }

 private:
  struct Bucket {
    at::Tensor numbers;  // a part of flat_
    std::int64_t num_parameters = 0, num_missing = 0;
  };
  class Hook;

  void start_complete();

  Ranks& ranks_;
  std::vector<at::Tensor> parameters_;
  std::vector<std::size_t> bucket_of_;  // by parameter
  std::vector<bool> is_ready_;
  at::Tensor flat_;
  std::vector<Bucket> buckets_;
  bool expecting_ = false;
  std::vector<std::shared_ptr<Transfer>> sums_;  // of the first buckets
};

}  // namespace cresco::dist
