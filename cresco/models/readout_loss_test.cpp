#include "cresco/models/readout_loss.h"

#include "cresco/base/require.h"
#include "cresco/kernels/bf16_product.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace cresco::models {
namespace {

struct Problem {
  at::Tensor hidden_ND, weight_VD, targets_N;
  double scale = 0.125;
};

Problem problem_of(std::int64_t N, std::int64_t D, std::int64_t V, double size = 3) {
  at::Generator random = at::detail::createCPUGenerator(7);
  Problem p{at::randn({N, D}, random), at::randn({V, D}, random) * (size / std::sqrt(double(D))),
            at::randint(V, {N}, random, at::TensorOptions(at::kLong))};
  for (std::int64_t i = 2; i < N; i += 7) p.targets_N[i] = -1;
  return p;
}

struct Result {
  double loss;
  at::Tensor hidden_gradient_ND, weight_gradient_VD;
};

Result compute(ReadoutLoss& readout, const Problem& p, at::ScalarType gradient_type = at::kFloat) {
  Result found{0, at::empty_like(p.hidden_ND),
               at::full(p.weight_VD.sizes(), 0.5, at::TensorOptions(gradient_type))};
  found.loss = readout.add(p.hidden_ND, p.weight_VD, p.targets_N, p.scale, found.hidden_gradient_ND,
                           found.weight_gradient_VD);
  found.weight_gradient_VD -= 0.5;  // it was added to
  return found;
}

// In double, all at once.
Result reference(const Problem& p) {
  const at::Tensor hidden = p.hidden_ND.to(at::kDouble), weight = p.weight_VD.to(at::kDouble);
  const at::Tensor log_probability = hidden.mm(weight.t()).log_softmax(1);
  const at::Tensor counts_N1 = p.targets_N.ge(0).to(at::kDouble).unsqueeze(1);
  const at::Tensor onehot =
      at::zeros_like(log_probability).scatter_(1, p.targets_N.clamp_min(0).unsqueeze(1), 1);
  const at::Tensor gradient = (log_probability.exp() - onehot) * counts_N1 * p.scale;
  return {-(log_probability * onehot * counts_N1).sum().item<double>(), gradient.mm(weight),
          gradient.t().mm(hidden)};
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).norm() / b.to(at::kDouble).norm()).item<double>();
}

void expect_near(const Result& found, const Result& exact, double loss, double gradient) {
  EXPECT_NEAR(found.loss, exact.loss, loss * std::abs(exact.loss));
  EXPECT_LE(relative_error(found.hidden_gradient_ND, exact.hidden_gradient_ND), gradient);
  EXPECT_LE(relative_error(found.weight_gradient_VD, exact.weight_gradient_VD), gradient);
}

TEST(ReadoutLoss, AgreesWithTheDefinition) {
  ReadoutLoss readout;  // one for all sizes: its buffers fit themselves
  struct {
    std::int64_t N, D, V;
  } const sizes[] = {{5, 8, 11}, {257, 24, 1501}, {256, 16, 1024}, {600, 40, 3001}, {2, 5, 5000}};
  for (const auto& [N, D, V] : sizes) {
    SCOPED_TRACE(testing::Message() << N << " tokens, " << D << " wide, " << V << " ids");
    const Problem p = problem_of(N, D, V);
    expect_near(compute(readout, p), reference(p), 1e-6, 1e-5);
    EXPECT_NEAR(readout.loss(p.hidden_ND, p.weight_VD, p.targets_N), reference(p).loss,
                1e-6 * reference(p).loss);
  }
}

TEST(ReadoutLoss, IsExactInDouble) {
  Problem p = problem_of(70, 12, 333);
  p.hidden_ND = p.hidden_ND.to(at::kDouble);
  p.weight_VD = p.weight_VD.to(at::kDouble);
  ReadoutLoss readout;
  expect_near(compute(readout, p, at::kDouble), reference(p), 1e-13, 1e-13);
}

TEST(ReadoutLoss, StandsLargeLogits) {
  const Problem p = problem_of(40, 16, 2000, 1e4);
  ASSERT_GT(p.hidden_ND.mm(p.weight_VD.t()).abs().max().item<double>(), 1e4);
  ReadoutLoss readout;
  expect_near(compute(readout, p), reference(p), 1e-6,
              1e-3);  // a logit's own rounding is 1e-3 here
}

TEST(ReadoutLoss, ReadsSmallTypesAsTheyAre) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    Problem p = problem_of(300, 24, 1501);
    p.hidden_ND = p.hidden_ND.to(type);
    ReadoutLoss readout;
    // What is rounded is the gradient of the hidden states, when it is written.
    const double rounding = type == at::kHalf ? 1e-3 : 4e-3;
    for (const bool both : {false, true}) {
      if (both) p.weight_VD = p.weight_VD.to(type);
      const Result found = compute(readout, p), exact = reference(p);
      EXPECT_NEAR(found.loss, exact.loss, 1e-6 * exact.loss);
      EXPECT_EQ(found.hidden_gradient_ND.scalar_type(), type);
      EXPECT_LE(relative_error(found.hidden_gradient_ND, exact.hidden_gradient_ND), rounding);
      EXPECT_LE(relative_error(found.weight_gradient_VD, exact.weight_gradient_VD), 1e-5);
    }
  }
}

// Logits and sums are exact for the rounded numbers; beside those only the gradient of the logits
// is rounded.
TEST(ReadoutLoss, MayRoundWhatIsMultiplied) {
  if (!kernels::has_amx()) GTEST_SKIP() << "this processor, or CRESCO_CPU_KERNELS, has no AMX";
  ReadoutLoss readout(/*rounds=*/true);
  struct {
    std::int64_t N, D, V;
  } const sizes[] = {{5, 8, 11}, {257, 24, 1501}, {600, 41, 3001}, {1030, 64, 2048}, {2, 5, 5000}};
  for (const auto& [N, D, V] : sizes) {
    SCOPED_TRACE(testing::Message() << N << " tokens, " << D << " wide, " << V << " ids");
    Problem p = problem_of(N, D, V);
    p.hidden_ND = p.hidden_ND.to(at::kBFloat16).to(at::kFloat);
    p.weight_VD = p.weight_VD.to(at::kBFloat16).to(at::kFloat);
    expect_near(compute(readout, p), reference(p), 1e-6, 3e-3);
    EXPECT_NEAR(readout.loss(p.hidden_ND, p.weight_VD, p.targets_N), reference(p).loss,
                1e-6 * reference(p).loss);
  }
  const int before = at::get_num_threads();
  const Problem p = problem_of(600, 64, 3001);
  const Result whole = compute(readout, p);
  at::set_num_threads(before == 1 ? 2 : 1);
  const Result other = compute(readout, p);
  at::set_num_threads(before);
  EXPECT_EQ(whole.loss, other.loss);
  EXPECT_TRUE(whole.hidden_gradient_ND.equal(other.hidden_gradient_ND));
  EXPECT_TRUE(whole.weight_gradient_VD.equal(other.weight_gradient_VD));
  EXPECT_GT(relative_error(whole.weight_gradient_VD, reference(p).weight_gradient_VD), 1e-4);
}

TEST(ReadoutLoss, ChunksAndCallsAddUp) {
  // Sequences cut elsewhere: the same gradients but for rounding, added to what is there.
  const Problem whole = problem_of(520, 16, 1200);
  ReadoutLoss readout;
  const Result all = compute(readout, whole);
  Result parts{0, at::empty_like(whole.hidden_ND), at::zeros_like(whole.weight_VD)};
  for (const auto& [first, count] : {std::pair(0, 300), std::pair(300, 220)})
    parts.loss +=
        readout.add(whole.hidden_ND.narrow(0, first, count), whole.weight_VD,
                    whole.targets_N.narrow(0, first, count), whole.scale,
                    parts.hidden_gradient_ND.narrow(0, first, count), parts.weight_gradient_VD);
  expect_near(parts, all, 1e-12, 1e-5);
}

TEST(ReadoutLoss, DoesNotDependOnThreads) {
  const Problem p = problem_of(300, 32, 5003);
  const int before = at::get_num_threads();
  std::vector<Result> found;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    ReadoutLoss readout;
    found.push_back(compute(readout, p));
  }
  at::set_num_threads(before);
  for (const Result& other : found) {
    EXPECT_EQ(other.loss, found[0].loss);
    EXPECT_TRUE(at::equal(other.hidden_gradient_ND, found[0].hidden_gradient_ND));
    EXPECT_TRUE(at::equal(other.weight_gradient_VD, found[0].weight_gradient_VD));
  }
}

TEST(ReadoutLoss, WhatIsNotWantedIsLeftAlone) {
  const Problem p = problem_of(30, 8, 100);
  ReadoutLoss readout;
  const Result both = compute(readout, p);
  const at::Tensor hidden_gradient = at::empty_like(p.hidden_ND);
  EXPECT_EQ(readout.add(p.hidden_ND, p.weight_VD, p.targets_N, p.scale, hidden_gradient, {}),
            both.loss);
  EXPECT_TRUE(at::equal(hidden_gradient, both.hidden_gradient_ND));
  const at::Tensor ignored = at::full_like(p.targets_N, -1);
  EXPECT_EQ(readout.add(p.hidden_ND, p.weight_VD, ignored, p.scale, hidden_gradient, {}), 0);
  EXPECT_EQ(hidden_gradient.abs().max().item<float>(), 0);
}

TEST(ReadoutLoss, RefusesIdsThatTheVocabularyLacks) {
  Problem p = problem_of(5, 8, 100);
  ReadoutLoss readout;
  for (const std::int64_t id : {100, -2}) {
    p.targets_N[3] = id;
    EXPECT_THROW(readout.loss(p.hidden_ND, p.weight_VD, p.targets_N), Error);
  }
}

}  // namespace
}  // namespace cresco::models
