#include "cresco/pretrain/train_step.h"

#include "cresco/models/initialise.h"
#include "cresco/models/neox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace cresco::pretrain {
namespace {

families::NeoxConfig tiny(bool tied) {
  families::NeoxConfig c;
  c.vocab_size = 301;
  c.hidden_size = 24;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 3;
  c.rotary_pct = 0.5;
  c.intermediate_size = 40;
  c.tie_word_embeddings = tied;
  return c;
}

std::vector<tensor::NamedTensor> weights_of(const families::NeoxConfig& config, bool with_gradients,
                                            double size = 3) {
  auto weights = models::initialise(config, "small_wang", 3);
  for (auto& [name, weight] : weights) {
    weight = (weight * size).set_requires_grad(true);  // a loss that is far from uniform
    if (with_gradients) weight.mutable_grad() = at::zeros_like(weight);
  }
  return weights;
}

at::Tensor ids() {  // some of them several times
  return (at::arange(4 * 20) * 7 % 60).view({4, 20});
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Logits whole, autograd for everything.
std::vector<tensor::NamedTensor> plain_gradients(const families::NeoxConfig& config, double scale,
                                                 double& loss, double size = 3) {
  auto weights = weights_of(config, false, size);
  const models::Neox model(config, weights);
  const at::Tensor targets = ids().slice(1, 1);
  const at::Tensor sum = models::cross_entropy(model.logits(ids().slice(1, 0, -1)), targets) *
                         static_cast<double>(targets.numel());
  torch::autograd::backward({sum * scale}, {});
  loss = sum.item<double>();
  return weights;
}

class GradientStepTest : public testing::TestWithParam<bool> {};

TEST_P(GradientStepTest, AddsTheGradientsThatAutogradHas) {
  const families::NeoxConfig config = tiny(GetParam());
  double loss = 0;
  const auto expected = plain_gradients(config, 0.01, loss);
  const auto weights = weights_of(config, true);
  const models::Neox model(config, weights);
  GradientStep step(model, at::kFloat);
  bool readout_done = false;
  // In two micro-batches.
  double sum = step.add(ids().slice(0, 0, 1), 0.01);
  sum += step.add(ids().slice(0, 1), 0.01, [&] { readout_done = true; });
  EXPECT_TRUE(readout_done);
  EXPECT_NEAR(sum, loss, 1e-6 * loss);
  EXPECT_NEAR(step.loss(ids()), loss, 1e-6 * loss);
  for (std::size_t i = 0; i < weights.size(); ++i)
    EXPECT_LE(relative_error(weights[i].second.grad(), expected[i].second.grad()), 1e-5)
        << weights[i].first;
}

INSTANTIATE_TEST_SUITE_P(, GradientStepTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "tied" : "untied"; });

TEST(GradientStep, WritesTheGradientsThatAreThere) {
  // Whoever keeps them elsewhere (in one piece, for sums over ranks) finds them where they were.
  const auto weights = weights_of(tiny(false), true);
  std::vector<const void*> places;
  for (const auto& [name, weight] : weights) places.push_back(weight.grad().const_data_ptr());
  const models::Neox model(tiny(false), weights);
  GradientStep step(model, at::kFloat);
  step.add(ids(), 1);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(weights[i].second.grad().const_data_ptr(), places[i]) << weights[i].first;
    EXPECT_GT(weights[i].second.grad().abs().max().item<float>(), 0) << weights[i].first;
  }
}

TEST(GradientStep, LeavesWhatIsFrozenAlone) {
  const families::NeoxConfig config = tiny(false);
  double loss = 0;
  const auto expected = plain_gradients(config, 1, loss);
  auto weights = weights_of(config, true);
  for (auto& [name, weight] : weights)
    if (name == "embed_out.weight") {
      weight.set_requires_grad(false);
      weight.mutable_grad() = at::Tensor();
    }
  const models::Neox model(config, weights);
  GradientStep step(model, at::kFloat);
  EXPECT_NEAR(step.add(ids(), 1), loss, 1e-6 * loss);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i].first == "embed_out.weight")
      EXPECT_FALSE(weights[i].second.grad().defined());
    else
      EXPECT_LE(relative_error(weights[i].second.grad(), expected[i].second.grad()), 1e-5);
  }
}

TEST(GradientStep, TrainsAReadoutAlone) {
  const families::NeoxConfig config = tiny(false);
  double loss = 0;
  const auto expected = plain_gradients(config, 1, loss);
  auto weights = weights_of(config, true);
  for (auto& [name, weight] : weights) weight.set_requires_grad(name == "embed_out.weight");
  const models::Neox model(config, weights);
  GradientStep step(model, at::kFloat);
  EXPECT_NEAR(step.add(ids(), 1), loss, 1e-6 * loss);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const at::Tensor& gradient = weights[i].second.grad();
    if (weights[i].first == "embed_out.weight")
      EXPECT_LE(relative_error(gradient, expected[i].second.grad()), 1e-5);
    else
      EXPECT_EQ(gradient.abs().max().item<float>(), 0) << weights[i].first;
  }
}

TEST(GradientStep, TakesWindowsOfOneTarget) {
  const auto weights = weights_of(tiny(false), true);
  const models::Neox model(tiny(false), weights);
  GradientStep step(model, at::kFloat);
  double sum = 0;
  for (std::int64_t row = 0; row < 4; ++row)
    sum += step.loss(ids().slice(0, row, row + 1).slice(1, 0, 2));
  EXPECT_NEAR(step.add(ids().slice(1, 0, 2), 1), sum, 1e-6 * sum);
}

TEST(GradientStep, RoundsProductsOfTheBodyOnly) {
  const families::NeoxConfig config = tiny(false);
  double loss = 0;
  const auto expected = plain_gradients(config, 1, loss, 1);
  const auto weights = weights_of(config, true, 1);
  const models::Neox model(config, weights);
  GradientStep step(model, at::kBFloat16);
  const double rounded = step.add(ids(), 1);
  EXPECT_NE(rounded, loss);
  EXPECT_NEAR(rounded, loss, 1e-2 * loss);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(weights[i].second.grad().scalar_type(), at::kFloat);
    EXPECT_LE(relative_error(weights[i].second.grad(), expected[i].second.grad()), 0.02)
        << weights[i].first;
  }
}

TEST(GradientStep, KnowsWhereItsTimeGoes) {
  const auto weights = weights_of(tiny(false), true);
  const models::Neox model(tiny(false), weights);
  GradientStep step(model, at::kFloat);
  StepTimes times;
  step.time_into(times);
  step.add(ids(), 1);
  EXPECT_GT(times.forward, 0);
  EXPECT_GT(times.readout, 0);
  EXPECT_GT(times.backward, 0);
}

}  // namespace
}  // namespace cresco::pretrain
