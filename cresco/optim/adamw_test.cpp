#include "cresco/optim/adamw.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cresco::optim {
namespace {

at::Tensor parameter(std::vector<double> values, at::IntArrayRef shape) {
  at::Tensor p = at::tensor(values).to(at::kFloat).reshape(shape);
  p.mutable_grad() = at::zeros_like(p);
  return p;
}

// The definition, in double, for one number.
struct Reference {
  double p, m = 0, v = 0;
  int t = 0;
  void step(double g, double lr, double b1, double b2, double eps, double decay) {
    ++t;
    p *= 1 - lr * decay;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    p -= lr / (1 - std::pow(b1, t)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(b2, t)) + eps);
  }
};

TEST(AdamW, AgreesWithTheDefinition) {
  OptimizerConfig config{.lr = 1e-2, .grad_clip = 0};
  config.rules.push_back({"b*", 0.5, -1, false});
  config.rules.push_back({"*ias", -1, 0.0, false});  // leaves the rate as it is
  at::Tensor a = parameter({0.5, -2}, {1, 2}), b = parameter({1}, {1, 1});
  AdamW adam(config, {{"a", a}, {"bias", b}});
  Reference ra{0.5}, rb{1};
  for (int t = 0; t < 50; ++t) {
    const double g = std::sin(1.0 + t);
    a.mutable_grad().fill_(g);
    b.mutable_grad().fill_(2 * g);
    const double norm = adam.step(0.5);
    EXPECT_NEAR(norm, std::abs(g) * std::sqrt(6.0), 1e-5);
    ra.step(g, 0.5e-2, 0.9, 0.95, 1e-8, 0.1);
    rb.step(2 * g, 0.25e-2, 0.9, 0.95, 1e-8, 0);
  }
  EXPECT_NEAR(a[0][0].item<double>(), ra.p, 1e-6);
  EXPECT_NEAR(b[0][0].item<double>(), rb.p, 1e-6);
}

TEST(AdamW, ClipsByTheGlobalNorm) {
  OptimizerConfig config{.lr = 1, .weight_decay = 0, .grad_clip = 1};
  at::Tensor a = parameter({0}, {1}), b = parameter({0}, {1});
  AdamW adam(config, {{"a", a}, {"b", b}});
  a.mutable_grad().fill_(3.0);
  b.mutable_grad().fill_(4.0);
  EXPECT_NEAR(adam.step(1), 5, 1e-6);
  EXPECT_NEAR(a.grad().item<double>(), 0.6, 1e-6);
}

TEST(AdamW, ResumesBitForBit) {
  const TemporaryFolder folder;
  const OptimizerConfig config;
  at::Tensor a = parameter({0.5, -2, 3}, {3, 1});
  AdamW whole(config, {{"a", a}});
  const auto gradient = [](int t) { return std::sin(1.0 + t); };
  for (int t = 0; t < 5; ++t) {
    a.mutable_grad().fill_(gradient(t));
    whole.step(1);
  }
  tensor::write_tensors(folder / "state", whole.state());
  at::Tensor b = a.clone();
  b.mutable_grad() = at::zeros_like(b);
  AdamW resumed(config, {{"a", b}});
  resumed.load(formats::SafetensorsFile(folder / "state"), whole.num_steps());
  for (int t = 5; t < 9; ++t) {
    for (auto* p : {&a, &b}) p->mutable_grad().fill_(gradient(t));
    whole.step(1);
    resumed.step(1);
  }
  EXPECT_TRUE(at::equal(a, b));
}

TEST(AdamW, LeavesFrozenTensorsAndRefusesBlindRules) {
  OptimizerConfig config;
  config.rules.push_back({"a", 1, -1, true});
  at::Tensor a = parameter({1}, {1, 1}), b = parameter({1}, {1, 1});
  AdamW adam(config, {{"a", a}, {"b", b}});
  a.mutable_grad().fill_(1);
  b.mutable_grad().fill_(1);
  adam.step(1);
  EXPECT_EQ(a.item<double>(), 1);
  EXPECT_NE(b.item<double>(), 1);
  config.rules.push_back({"embed_outt.*", 1, -1, false});
  EXPECT_THROW(AdamW(config, {{"embed_out.weight", a}, {"a", b}}), UsageError);
}

TEST(Matches, KnowsStars) {
  EXPECT_TRUE(matches("embed_out.*", "embed_out.weight"));
  EXPECT_TRUE(matches("*.bias", "a.b.bias"));
  EXPECT_TRUE(matches("*layers.*.mlp*", "gpt_neox.layers.3.mlp.x"));
  EXPECT_FALSE(matches("embed", "embed_out"));
  EXPECT_FALSE(matches("*x", "ab"));
  EXPECT_TRUE(matches("*", ""));
}

}  // namespace
}  // namespace cresco::optim
