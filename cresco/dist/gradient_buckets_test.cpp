#include "cresco/dist/gradient_buckets.h"

#include "cresco/dist/thread_ranks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace cresco::dist {
namespace {

// A small network with a parameter that takes no part, and one that is used twice.
struct Network {
  std::vector<at::Tensor> parameters;

  Network() {
    for (const std::vector<std::int64_t>& shape :
         std::vector<std::vector<std::int64_t>>{{5, 7}, {7}, {7, 7}, {3}, {7, 2}}) {
      std::int64_t numel = 1;
      for (const std::int64_t n : shape) numel *= n;
      const double phase = static_cast<double>(parameters.size());
      parameters.push_back(
          at::arange(numel, at::kFloat).add(phase).sin().reshape(shape).set_requires_grad(true));
    }
  }
  at::Tensor loss(const at::Tensor& x) const {
    at::Tensor h = x.mm(parameters[0]).add(parameters[1]).tanh();
    h = h.mm(parameters[2]).tanh().mm(parameters[2]);
    return h.mm(parameters[4]).square().sum();
  }
};

at::Tensor input(int rank, int micro_batch) {
  return at::arange(20, at::kFloat).add(10.0 * rank + 3.0 * micro_batch).cos().reshape({4, 5});
}

// Every rank's gradient of two steps with two micro-batches, against all of them computed here.
void expect_sums(Ranks& ranks, std::int64_t bucket_bytes, std::size_t num_buckets) {
  Network network;
  GradientBuckets buckets(network.parameters, ranks, bucket_bytes);
  EXPECT_EQ(buckets.num_buckets(), num_buckets);
  for (int step = 0; step < 2; ++step) {
    buckets.zero();
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      if (micro_batch == 1) buckets.expect();
      torch::autograd::backward({network.loss(input(ranks.rank(), step + micro_batch))}, {});
    }
    buckets.wait();
    const Network reference;
    for (int r = 0; r < ranks.size(); ++r)
      for (int micro_batch = 0; micro_batch < 2; ++micro_batch)
        torch::autograd::backward({reference.loss(input(r, step + micro_batch))}, {});
    for (std::size_t i = 0; i < network.parameters.size(); ++i) {
      const at::Tensor& gradient = network.parameters[i].grad();
      if (i == 3) {
        EXPECT_TRUE(at::equal(gradient, at::zeros({3})));
        continue;
      }
      EXPECT_TRUE(at::allclose(gradient, reference.parameters[i].grad(), 1e-5, 1e-5)) << i;
      EXPECT_EQ(gradient.storage().data_ptr().get(), buckets.flat().storage().data_ptr().get());
    }
  }
}

TEST(GradientBuckets, SumOverThreads) {
  for (const int size : {1, 2, 3})
    for (const auto& [bytes, buckets] : {std::pair{1, 5}, std::pair{200, 2}, std::pair{1 << 20, 1}})
      ThreadRanks::run(size, [&](Ranks& ranks) {
        expect_sums(ranks, bytes, static_cast<std::size_t>(buckets));
      });
}

TEST(World, GradientBuckets) {
  expect_sums(world(), 1, 5);
  expect_sums(world(), 1 << 20, 1);
}

// Notes the sums that are begun, and by how many gradients each time.
class Watched final : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  void sum(const at::Tensor&) override {}
  void largest(const at::Tensor&) override {}
  at::Tensor gather(const at::Tensor& own) override { return own; }
  void wait_for_all() override {}
  Host host() override { return {}; }
  void broadcast(const std::vector<OwnedTensor>&) override {}
  std::shared_ptr<Transfer> start_sum(const at::Tensor& t) override {
    begun.push_back(t.numel());
    return one_rank().start_sum(t);
  }
  std::vector<std::int64_t> begun;
};

TEST(GradientBuckets, BeginInOrderAsGradientsComeIn) {
  std::vector<at::Tensor> parameters;
  for (const std::int64_t n : {48, 16, 32}) parameters.push_back(at::zeros({n}));
  Watched ranks;
  GradientBuckets buckets(parameters, ranks, 1);  // 32, 16, 48: the last comes first
  buckets.expect();
  buckets.ready(1);
  EXPECT_TRUE(ranks.begun.empty());  // bucket 0 is missing
  buckets.ready(2);
  EXPECT_EQ(ranks.begun, (std::vector<std::int64_t>{32, 16}));
  EXPECT_ANY_THROW(buckets.ready(2));
  buckets.wait();
  EXPECT_EQ(ranks.begun, (std::vector<std::int64_t>{32, 16, 48}));
  EXPECT_ANY_THROW(buckets.wait());
  EXPECT_ANY_THROW(buckets.ready(0));
}

// A backward pass before expect() sends nothing; the one after it begins during backward.
TEST(GradientBuckets, HooksSendInTheLastMicroBatchAlone) {
  Network network;
  Watched ranks;
  {
    GradientBuckets buckets(network.parameters, ranks, 1);
    torch::autograd::backward({network.loss(input(0, 0))}, {});
    EXPECT_TRUE(ranks.begun.empty());
    buckets.expect();
    torch::autograd::backward({network.loss(input(0, 1))}, {});
    EXPECT_EQ(ranks.begun.size(), 1u);  // parameter 4; 3 takes no part and holds up the rest
    buckets.wait();
    EXPECT_EQ(ranks.begun.size(), 5u);
  }
  torch::autograd::backward({network.loss(input(0, 1))}, {});  // the hooks have gone
  EXPECT_EQ(ranks.begun.size(), 5u);
}

}  // namespace
}  // namespace cresco::dist
