#include "cresco/models/neox.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/formats/safetensors.h"
#include "cresco/models/initialise.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <nlohmann/json.hpp>

#include <map>

namespace cresco::models {
namespace {

// What PyTorch and transformers computed in float64: tools/make_goldens.py.
struct Golden {
  explicit Golden(const std::string& name)
      : file(Path(CRESCO_SOURCE_DIR) / "tests" / "goldens" / (name + ".safetensors")) {}
  families::NeoxConfig config() const {
    return families::neox_from_json(parse_json(file.metadata().at("config"), "golden"), "golden");
  }
  at::Tensor get(const std::string& name) const { return tensor::to_tensor(file.tensor(name)); }

  formats::SafetensorsFile file;
};

double relative_error(const at::Tensor& ours, const at::Tensor& golden) {
  return ((ours.to(at::kDouble) - golden).norm() / golden.norm()).item<double>();
}

class NeoxGolden : public testing::TestWithParam<const char*> {};

TEST_P(NeoxGolden, LogitsLossAndEveryGradientAgree) {
  const Golden golden(GetParam());
  const families::NeoxConfig config = golden.config();
  // transformers makes its table of angles in float32 even for a float64 model: hence not 1e-12.
  for (const auto& [dtype, tolerance] :
       {std::pair(at::kFloat, 1e-5), std::pair(at::kDouble, 1e-6)}) {
    std::vector<tensor::NamedTensor> weights;
    for (const auto& spec : families::neox_tensors(config))
      weights.emplace_back(spec.name,
                           golden.get("weight/" + spec.name).to(dtype).set_requires_grad(true));
    const Neox model(config, weights);
    const at::Tensor ids = golden.get("ids"), inputs = ids.slice(1, 0, -1),
                     targets = ids.slice(1, 1);
    const at::Tensor logits = model.logits(inputs);
    EXPECT_LE(relative_error(logits.detach(), golden.get("logits")), tolerance);
    const at::Tensor loss = cross_entropy(logits, targets);
    EXPECT_NEAR(loss.item<double>(), std::stod(golden.file.metadata().at("loss")), tolerance * 10);
    torch::autograd::backward({loss}, {});
    for (const auto& [name, weight] : weights)
      EXPECT_LE(relative_error(weight.grad(), golden.get("gradient/" + name)), tolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(, NeoxGolden, testing::Values("neox_parallel", "neox_sequential"),
                         [](const auto& info) { return info.param; });

families::NeoxConfig tiny() {
  families::NeoxConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.rotary_pct = 0.5;
  c.intermediate_size = 16;
  return c;
}

TEST(Neox, SeesNothingOfTheFuture) {
  const Neox model(tiny(), initialise(tiny(), "small_wang", 1));
  const at::Tensor a = at::arange(6).reshape({1, 6}), b = a.clone();
  b[0][5] = 9;
  const at::Tensor before = model.logits(a).slice(1, 0, 5), after = model.logits(b).slice(1, 0, 5);
  EXPECT_TRUE(at::allclose(before, after, 0, 1e-6));
}

TEST(Neox, ShowsItsActivations) {
  const Neox model(tiny(), initialise(tiny(), "small_wang", 1));
  std::map<std::string, int> seen;
  std::vector<at::Tensor> residual;
  model.logits(at::arange(6).reshape({1, 6}),
               [&](const std::string& name, std::int64_t, const at::Tensor& x) {
                 EXPECT_EQ(x.sizes(), (at::IntArrayRef{1, 6, 8}));
                 ++seen[name];
                 if (name != "final_norm" && name != "resid_pre" && name != "resid_post")
                   residual.push_back(x);
                 if (name == "resid_post" && residual.size() == 5) {
                   // The residual is the sum of what was written to it.
                   at::Tensor sum = at::zeros_like(x);
                   for (const at::Tensor& part : residual) sum += part;
                   EXPECT_TRUE(at::allclose(sum, x, 1e-5, 1e-6));
                 }
               });
  EXPECT_EQ(seen, (std::map<std::string, int>{{"attn_out", 2},
                                              {"embed", 1},
                                              {"final_norm", 1},
                                              {"mlp_out", 2},
                                              {"resid_post", 2},
                                              {"resid_pre", 2}}));
}

TEST(Neox, RefusesWeightsThatDoNotFit) {
  auto weights = initialise(tiny(), "small_wang", 1);
  weights.back().second = at::zeros({3, 3});
  EXPECT_THROW(Neox(tiny(), weights), Error);
  weights.pop_back();
  EXPECT_THROW(Neox(tiny(), weights), Error);
}

}  // namespace
}  // namespace cresco::models
