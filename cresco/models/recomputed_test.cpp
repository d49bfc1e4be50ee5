#include "cresco/models/recomputed.h"

#include "cresco/models/gpt2.h"
#include "cresco/models/initialise.h"
#include "cresco/models/neox.h"
#include "cresco/tensor/autocast.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

namespace cresco::models {
namespace {

TEST(Recomputed, RunsAPartAgainAndKeepsNothingElse) {
  const at::Tensor weight = at::full({3}, 2.0).set_requires_grad(true);
  int runs = 0;
  const Part part = [&](const at::Tensor& x) {
    ++runs;
    return at::exp(x * weight);
  };
  for (const bool x_has_gradient : {true, false}) {
    const at::Tensor x = at::arange(3, at::kFloat).set_requires_grad(x_has_gradient);
    weight.mutable_grad() = at::Tensor();
    runs = 0;
    const at::Tensor out = recomputed(part, x);
    EXPECT_TRUE(at::equal(out, at::exp(x * 2)));
    EXPECT_EQ(runs, 1);
    torch::autograd::backward({out}, {at::ones({3})});
    EXPECT_EQ(runs, 2);
    EXPECT_TRUE(at::allclose(weight.grad(), x * at::exp(2 * x)));
    EXPECT_TRUE(!x_has_gradient || at::allclose(x.grad(), 2 * at::exp(2 * x)));
  }
}

template <class Model, class Config>
void expect_same_gradients(const Config& config, at::ScalarType dtype) {
  const auto weights = initialise(config, "small_wang", 5);
  for (const auto& [name, weight] : weights) weight.set_requires_grad(true);
  const at::Tensor ids = (at::arange(2 * 8) * 5 % 31).view({2, 8});
  const auto gradients = [&](bool checkpoints) {
    for (const auto& [name, weight] : weights) weight.mutable_grad() = at::zeros_like(weight);
    Model model(config, weights);
    if (checkpoints) model.checkpoint_activations();
    at::Tensor hidden;
    {
      const tensor::Autocast autocast(at::kCPU, dtype);
      hidden = model.hidden(ids);
    }
    torch::autograd::backward({hidden.square().sum()}, {});
    std::vector<at::Tensor> found{hidden.detach()};
    for (const auto& [name, weight] : weights) found.push_back(weight.grad().clone());
    return found;
  };
  const auto expected = gradients(false), found = gradients(true);
  EXPECT_FALSE(at::equal(expected[1], at::zeros_like(expected[1])));
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(at::equal(expected[i], found[i])) << (i == 0 ? "hidden" : weights[i - 1].first);
}

TEST(Recomputed, LayersHaveTheSameGradientsToTheBit) {
  families::NeoxConfig neox;
  neox.vocab_size = 31;
  neox.hidden_size = 24;
  neox.num_hidden_layers = 3;
  neox.num_attention_heads = 3;
  neox.intermediate_size = 40;
  families::Gpt2Config gpt2;
  gpt2.vocab_size = 31;
  gpt2.n_embd = 24;
  gpt2.n_layer = 2;
  gpt2.n_head = 3;
  gpt2.n_positions = 8;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const bool parallel : {true, false}) {
      neox.use_parallel_residual = parallel;
      expect_same_gradients<Neox>(neox, dtype);
    }
    for (const bool conv1d : {true, false}) {
      gpt2.conv1d = conv1d;
      expect_same_gradients<Gpt2>(gpt2, dtype);
    }
  }
}

}  // namespace
}  // namespace cresco::models
