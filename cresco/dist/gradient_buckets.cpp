#include "cresco/dist/gradient_buckets.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace cresco::dist {

// Autograd calls it when it has added to the parameter's .grad; on a CPU in the thread that called
// backward, so that MPI is used by one thread.
class GradientBuckets::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientBuckets& buckets, std::size_t i) : buckets_(buckets), i_(i) {}
  void operator()(const at::Tensor&) override {
    if (buckets_.expecting_) buckets_.ready(i_);
  }

 private:
  GradientBuckets& buckets_;
  std::size_t i_;
};

GradientBuckets::GradientBuckets(std::vector<at::Tensor> parameters, Ranks& ranks,
                                 std::int64_t bucket_bytes)
    : ranks_(ranks),
      parameters_(std::move(parameters)),
      bucket_of_(parameters_.size()),
      is_ready_(parameters_.size()) {
  if (parameters_.empty()) return;
  const at::Tensor& model = parameters_.front();
  const std::int64_t number_bytes = model.element_size(), line = 64 / number_bytes;
  std::vector<std::int64_t> begins(parameters_.size()), bucket_begins;
  std::int64_t end = 0;
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    const at::Tensor& p = parameters_[i];
    TORCH_CHECK(p.is_leaf() && p.is_contiguous() && p.scalar_type() == model.scalar_type() &&
                    p.device() == model.device(),
                "gradient buckets are of contiguous leaves of one type on one device");
    if (bucket_begins.empty() || (end - bucket_begins.back()) * number_bytes >= bucket_bytes) {
      bucket_begins.push_back(end);
      buckets_.emplace_back();
    }
    bucket_of_[i] = buckets_.size() - 1;
    ++buckets_.back().num_parameters;
    begins[i] = end;
    end += (p.numel() + line - 1) / line * line;
  }
  flat_ = at::zeros({end}, model.options().requires_grad(false));
  bucket_begins.push_back(end);
  for (std::size_t b = 0; b < buckets_.size(); ++b)
    buckets_[b].numbers =
        flat_.narrow(0, bucket_begins[b], bucket_begins[b + 1] - bucket_begins[b]);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& p = parameters_[i];
    p.mutable_grad() = flat_.narrow(0, begins[i], p.numel()).view(p.sizes());
    if (ranks_.size() > 1)
      torch::autograd::impl::set_post_acc_grad_hooks(p, std::make_unique<Hook>(*this, i));
  }
}

GradientBuckets::~GradientBuckets() {
  if (ranks_.size() > 1)
    for (const at::Tensor& p : parameters_)
      torch::autograd::impl::set_post_acc_grad_hooks(p, nullptr);
}

void GradientBuckets::zero() {
  if (flat_.defined()) flat_.zero_();
}

void GradientBuckets::expect() {
  expecting_ = true;
  sums_.clear();
  is_ready_.assign(parameters_.size(), false);
  for (Bucket& bucket : buckets_) bucket.num_missing = bucket.num_parameters;
}

void GradientBuckets::ready(std::size_t i) {
  TORCH_CHECK(expecting_ && !is_ready_[i], "the gradient of parameter ", i,
              " is said to be ready twice, or before expect()");
  is_ready_[i] = true;
  --buckets_[bucket_of_[i]].num_missing;
  if (ranks_.size() == 1) return;
  if (!sums_.empty()) sums_.back()->advance();
  start_complete();
}

void GradientBuckets::start_complete() {
  while (sums_.size() < buckets_.size() && buckets_[sums_.size()].num_missing == 0)
    sums_.push_back(ranks_.start_sum(buckets_[sums_.size()].numbers));
}

void GradientBuckets::wait() {
  TORCH_CHECK(expecting_, "gradient buckets: wait() without expect()");
  expecting_ = false;
  if (ranks_.size() == 1) return;
  for (Bucket& bucket : buckets_) bucket.num_missing = 0;
  start_complete();
  for (const auto& sum : sums_) sum->wait();
  sums_.clear();
}

}  // namespace cresco::dist
