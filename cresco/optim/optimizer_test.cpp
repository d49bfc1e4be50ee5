#include "cresco/optim/optimizer.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dist/thread_ranks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <mutex>

namespace cresco::optim {
namespace {

using Parameters = std::vector<tensor::NamedTensor>;

at::Tensor waves(at::IntArrayRef shape, double phase) {
  std::int64_t numel = 1;
  for (const std::int64_t n : shape) numel *= n;
  return at::arange(numel, at::kDouble).mul(0.7311).add(phase).sin().reshape(shape);
}

// Tensors above and below a block of shards.h, of every group.
Parameters model(at::ScalarType type = at::kFloat) {
  Parameters out;
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
           {"embed_in.weight", {700, 60}},
           {"layers.0.dense.weight", {60, 180}},
           {"layers.0.dense.bias", {60}},
           {"layers.0.mlp.weight", {240, 60}},
           {"layers.1.dense.weight", {60, 180}},
           {"layers.1.mlp.weight", {240, 60}},
           {"norm.weight", {60}},
           {"embed_out.weight", {700, 60}}}) {
    out.emplace_back(name, waves(shape, static_cast<double>(out.size())).to(type));
    out.back().second.mutable_grad() = at::zeros_like(out.back().second);
  }
  return out;
}

void set_gradients(const Parameters& parameters, int step, double scale = 1) {
  double phase = 100 * step;
  for (const auto& [name, p] : parameters) {
    phase += 17;
    p.grad().copy_(waves(p.sizes(), phase).mul(scale * (1 + phase / 1000)));
  }
}

bool equal(const Parameters& a, const Parameters& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].first != b[i].first || !at::equal(a[i].second, b[i].second)) return false;
  return a.size() == b.size();
}

double relative_error(const at::Tensor& ours, const at::Tensor& golden) {
  return ((ours - golden).norm() / golden.norm()).item<double>();
}

// One of each kind, with what makes them differ from the plain case.
std::vector<OptimizerConfig> configs() {
  std::vector<OptimizerConfig> out{
      {.name = "adamw", .lr = 1e-2, .rules = {{.match = "embed_out*", .lr_multiplier = 4}}},
      {.name = "adam", .lr = 1e-2, .grad_clip = 0},
      {.name = "sgd", .lr = 1e-2, .grad_clip = 10},
      {.name = "sgd", .lr = 1e-2, .momentum = 0.9, .nesterov = true},
      {.name = "muon", .lr = 1e-2, .rules = {{.match = "*bias", .frozen = true}}}};
  out.back().muon.momentum_warmup_steps = 4;
  return out;
}

// tools/make_optimizer_goldens.py: PyTorch's own, in float64.
TEST(Optimizer, AgreesWithPyTorch) {
  const formats::SafetensorsFile file(Path(CRESCO_SOURCE_DIR) /
                                      "tests/goldens/optimizers.safetensors");
  const Json cases = parse_json(file.metadata().at("cases"), "cases");
  ASSERT_GE(cases.size(), 8u);
  const auto stored = [&](const std::string& name) { return tensor::to_tensor(file.tensor(name)); };
  for (const auto& [name, settings] : cases.items()) {
    OptimizerConfig config{.name = settings["name"], .grad_clip = settings.value("grad_clip", 0.0)};
    // PyTorch decays every tensor it is given.
    config.rules = {{.match = "*", .weight_decay = settings["weight_decay"]}};
    const bool is_muon = config.name == "muon";
    if (is_muon) {
      config.muon = {.lr = settings["lr"],
                     .momentum = settings["momentum"],
                     .nesterov = settings["nesterov"],
                     .ns_steps = settings.value("ns_steps", 5),
                     .adjust_lr_fn = settings.value("adjust_lr_fn", "original")};
    } else {
      config.lr = settings["lr"];
      config.momentum = settings.value("momentum", 0.0);
      config.nesterov = settings.value("nesterov", false);
      if (settings.contains("betas")) {
        config.betas = settings["betas"].get<std::vector<double>>();
        config.eps = settings["eps"];
      }
    }
    for (const auto type : {at::kDouble, at::kFloat}) {
      Parameters parameters;
      for (const std::string p : {"w", "t", "b"}) {
        if (is_muon && p == "b") continue;
        parameters.emplace_back(p, stored("start/" + p).to(type));
        parameters.back().second.mutable_grad() = at::zeros_like(parameters.back().second);
      }
      const auto optimizer = make_optimizer(config, parameters);
      const int steps = std::stoi(file.metadata().at("steps"));
      for (int step = 0; step < steps; ++step) {
        for (const auto& [p, tensor] : parameters)
          tensor.grad().copy_(stored("gradient/" + p)[step]);
        optimizer->step(1.0 / (step + 1));
      }
      // Of what has changed; there the parameters' own rounding is larger in float. The factor of
      // clipping is a float.
      const double tolerance = type == at::kFloat ? 2e-5 : config.grad_clip > 0 ? 2e-6 : 1e-12;
      for (const auto& [p, tensor] : parameters) {
        const at::Tensor golden = stored(name + "/" + p), start = stored("start/" + p);
        EXPECT_LT(relative_error(tensor.to(at::kDouble) - start, golden - start), tolerance)
            << name << " " << p;
        if (is_muon && !settings.contains("adjust_lr_fn")) {
          // PyTorch as installed rounds to bf16.
          EXPECT_LT(
              relative_error(tensor.to(at::kDouble) - start, stored(name + "_bf16/" + p) - start),
              0.03)
              << name << " " << p;
        }
      }
    }
  }
}

// The definition of the warm-up, for one matrix with orthogonal rows: the direction is the
// polynomial of 1/sqrt(2) whatever the momentum, so look at the buffer.
TEST(Optimizer, WarmsUpMuonsMomentum) {
  OptimizerConfig config{.name = "muon", .grad_clip = 0};
  config.muon.momentum_warmup_steps = 2;
  at::Tensor p = at::eye(2, at::kDouble);
  p.mutable_grad() = at::eye(2, at::kDouble);
  const auto optimizer = make_optimizer(config, {{"w", p}});
  double buffer = 0;
  for (const double mu : {0.85, 0.90, 0.95, 0.95}) {
    p.mutable_grad().fill_(0).fill_diagonal_(1);
    optimizer->step(1);
    buffer = mu * buffer + (1 - mu);
    EXPECT_NEAR(optimizer->state()[0].second[0][0].item<double>(), buffer, 1e-12);
  }
}

TEST(Optimizer, AdjustsMuonsRateToTheShape) {
  for (const auto& [how, tall, wide] :
       {std::tuple{"original", 2.0, 1.0}, std::tuple{"match_rms_adamw", 1.6, 1.6},
        std::tuple{"sqrt_max", 8.0, 8.0}, std::tuple{"none", 1.0, 1.0}}) {
    OptimizerConfig config{.name = "muon", .weight_decay = 0, .grad_clip = 0};
    config.muon.adjust_lr_fn = how;
    config.muon.lr = 0.5;
    at::Tensor a = at::zeros({64, 16}, at::kDouble), b = at::zeros({16, 64}, at::kDouble);
    a.mutable_grad() = waves({64, 16}, 1).add(waves({64, 16}, 9).square());
    b.mutable_grad() = a.grad().t().contiguous();
    make_optimizer(config, {{"a", a}, {"b", b}})->step(1);
    EXPECT_LT(relative_error(a.t() / tall, b / wide), 1e-10) << how;
    const double largest = std::get<1>(at::linalg_svd(b)).max().item<double>();
    EXPECT_NEAR(largest, 0.5 * wide, 0.25 * wide) << how;
    // Stored the other way round, the first has the inputs' rows.
    config.inputs_first = true;
    at::Tensor c = at::zeros({64, 16}, at::kDouble);
    c.mutable_grad() = a.grad();
    make_optimizer(config, {{"c", c}})->step(1);
    EXPECT_LT(relative_error(c / wide, a / tall), 1e-10) << how;
  }
}

TEST(Optimizer, GivesNormsOfTheTrueGradients) {
  OptimizerConfig config;
  config.rules = {{.match = "layers.1*", .group = "last"}, {.match = "norm*", .frozen = true}};
  const Parameters parameters = model();
  const auto optimizer = make_optimizer(config, parameters);
  set_gradients(parameters, 0, 8);
  std::map<std::string, double> expected;
  double all = 0;
  for (const auto& [name, p] : parameters) {
    if (name == "norm.weight") continue;
    const double square = p.grad().to(at::kDouble).div(8).square().sum().item<double>();
    expected[settings_of(config, name, p).group] += square;
    all += square;
  }
  const StepResult result = optimizer->step(1, 8);
  EXPECT_TRUE(result.is_finite());
  EXPECT_NEAR(result.grad_norm, std::sqrt(all), 1e-10 * std::sqrt(all));
  ASSERT_EQ(result.group_norms.size(), 5u);  // embed_in, matrices, vectors, last, embed_out
  for (const auto& [group, norm] : result.group_norms)
    EXPECT_NEAR(norm, std::sqrt(expected.at(group)), 1e-10 * norm) << group;
}

// Clipped: the update is that of the gradient divided by its norm.
TEST(Optimizer, ClipsByTheGlobalNorm) {
  OptimizerConfig config{.name = "sgd", .lr = 1, .weight_decay = 0, .grad_clip = 2};
  at::Tensor a = at::zeros({1}), b = at::zeros({1, 1});
  a.mutable_grad() = at::full({1}, 3.0f);
  b.mutable_grad() = at::full({1, 1}, 4.0f);
  const auto optimizer = make_optimizer(config, {{"a", a}, {"b", b}});
  EXPECT_NEAR(optimizer->step(1).grad_norm, 5, 1e-6);
  EXPECT_NEAR(a.item<double>(), -1.2, 1e-6);
  EXPECT_NEAR(b.item<double>(), -1.6, 1e-6);
}

// A loss scale that is a power of two changes no bit, clipped or not.
TEST(Optimizer, UndoesTheLossScaleExactly) {
  for (const OptimizerConfig& config : configs())
    for (const double clip : {0.0, 1.0}) {
      OptimizerConfig clipped = config;
      clipped.grad_clip = clip;
      const Parameters plain = model(), scaled = model();
      const auto one = make_optimizer(clipped, plain), other = make_optimizer(clipped, scaled);
      for (int step = 0; step < 3; ++step) {
        set_gradients(plain, step);
        set_gradients(scaled, step, 1024);
        EXPECT_EQ(one->step(1).grad_norm, other->step(1, 1024).grad_norm);
        EXPECT_TRUE(equal(plain, scaled)) << config.name << clip << " step " << step;
      }
    }
}

TEST(Optimizer, ChangesNothingWhenANumberIsNotFinite) {
  for (const OptimizerConfig& config : configs()) {
    const Parameters parameters = model(), undisturbed = model();
    const auto optimizer = make_optimizer(config, parameters),
               reference = make_optimizer(config, undisturbed);
    for (int step = 0; step < 4; ++step) {
      if (step == 2) {
        for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
          set_gradients(parameters, step);
          parameters[7].second.grad()[699][59] = bad;
          parameters[3].second.grad()[0][1] = bad;
          const StepResult result = optimizer->step(1, 4);
          EXPECT_FALSE(result.is_finite());
          EXPECT_FALSE(std::isfinite(result.grad_norm));
          EXPECT_EQ(result.not_finite, "layers.0.mlp.weight");
          EXPECT_EQ(optimizer->num_steps(), 2);
        }
      }
      set_gradients(parameters, step);
      set_gradients(undisturbed, step);
      optimizer->step(1);
      reference->step(1);
    }
    EXPECT_TRUE(equal(parameters, undisturbed)) << config.name;
    EXPECT_TRUE(equal(optimizer->state(), reference->state()));
  }
}

TEST(Optimizer, LeavesFrozenTensorsWithoutState) {
  OptimizerConfig config;
  config.rules = {{.match = "embed*", .frozen = true}};
  Parameters parameters = model();
  parameters[0].second.mutable_grad() = at::Tensor();  // nobody asks for it
  const at::Tensor before = parameters[0].second.clone();
  const auto optimizer = make_optimizer(config, parameters);
  for (const auto& [name, p] : parameters)
    if (p.grad().defined()) p.grad().fill_(1);
  optimizer->step(1);
  EXPECT_TRUE(at::equal(parameters[0].second, before));
  EXPECT_EQ(optimizer->state().size(), 2u * 6);
  EXPECT_EQ(optimizer->state()[0].first, "layers.0.dense.weight.exp_avg");

  parameters[6].second.mutable_grad() = at::Tensor();
  EXPECT_THROW(optimizer->step(1), Error);
}

TEST(Optimizer, ResumesBitForBit) {
  const TemporaryFolder folder;
  for (const OptimizerConfig& config : configs()) {
    const Parameters whole = model(), again = model();
    const auto one = make_optimizer(config, whole);
    for (int step = 0; step < 3; ++step) {
      set_gradients(whole, step);
      one->step(1.0 / (1 + step));
    }
    tensor::write_tensors(folder / "state", one->state());
    const std::string numbers = to_line(one->numbers());
    for (std::size_t i = 0; i < whole.size(); ++i) again[i].second.copy_(whole[i].second);
    const auto other = make_optimizer(config, again);
    EXPECT_TRUE(other
                    ->load(formats::SafetensorsFile(folder / "state"), parse_json(numbers, "n"),
                           "state.json")
                    .empty());
    for (int step = 3; step < 6; ++step) {
      set_gradients(whole, step);
      set_gradients(again, step);
      one->step(1.0 / (1 + step));
      other->step(1.0 / (1 + step));
    }
    EXPECT_TRUE(equal(whole, again)) << config.name;
    EXPECT_TRUE(equal(one->state(), other->state())) << config.name;
    EXPECT_EQ(other->num_steps(), 6);
  }
}

// A tensor that was frozen begins later, as if it were alone at its first step.
TEST(Optimizer, BeginsAfreshWhatHasNoStateIfItMay) {
  const TemporaryFolder folder;
  OptimizerConfig frozen;
  frozen.rules = {{.match = "norm*", .frozen = true}};
  const Parameters parameters = model();
  {
    const auto optimizer = make_optimizer(frozen, parameters);
    for (int step = 0; step < 5; ++step) {
      set_gradients(parameters, step);
      optimizer->step(1);
    }
    tensor::write_tensors(folder / "state", optimizer->state());
  }
  const formats::SafetensorsFile file(folder / "state");
  const Json numbers{{"num_steps", 5}};
  const auto optimizer = make_optimizer({}, parameters);
  try {
    optimizer->load(file, numbers, "state.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'norm.weight' was frozen"), std::string::npos);
  }
  EXPECT_EQ(optimizer->load(file, numbers, "state.json", /*may_begin=*/true),
            std::vector<std::string>{"norm.weight"});
  EXPECT_EQ(optimizer->numbers()["began_at"]["norm.weight"], 5);
  const at::Tensor before = parameters[6].second.clone();
  for (const auto& [name, p] : parameters) p.grad().fill_(1);
  optimizer->step(1);
  // Adam's first step is the rate, whatever the gradient.
  EXPECT_TRUE(at::allclose(before - parameters[6].second, at::full({60}, 1e-3f), 0, 1e-6));

  // That is remembered.
  tensor::write_tensors(folder / "later", optimizer->state());
  const Parameters copy = model();
  for (std::size_t i = 0; i < copy.size(); ++i) copy[i].second.copy_(parameters[i].second);
  const auto resumed = make_optimizer({}, copy);
  resumed->load(formats::SafetensorsFile(folder / "later"), optimizer->numbers(), "state.json");
  set_gradients(parameters, 7);
  set_gradients(copy, 7);
  optimizer->step(1);
  resumed->step(1);
  EXPECT_TRUE(equal(parameters, copy));
}

TEST(Optimizer, RefusesStatesThatDoNotFit) {
  const TemporaryFolder folder;
  at::Tensor a = at::zeros({2, 3}), b = at::zeros({3, 2});
  tensor::write_tensors(folder / "state", make_optimizer({}, {{"w", a}})->state());
  const formats::SafetensorsFile file(folder / "state");
  EXPECT_THROW(make_optimizer({}, {{"w", b}})->load(file, {{"num_steps", 1}}, "n"), Error);
  const auto optimizer = make_optimizer({}, {{"w", a}});
  EXPECT_THROW(optimizer->load(file, {{"num_steps", -1}}, "n"), Error);
  EXPECT_THROW(optimizer->load(file, Json::object(), "n"), Error);
  EXPECT_THROW(
      optimizer->load(file, {{"num_steps", 1}, {"began_at", {{"w", 2}}}}, "n", /*may_begin=*/true),
      Error);
  EXPECT_EQ(optimizer->num_steps(), 0);
  EXPECT_THROW(make_optimizer({.rules = {{.match = "x"}}}, {{"w", a}}), UsageError);
}

// What any number of ranks computes is what one does, bit for bit: parameters, norms, whole states.
// A state goes on with any number of ranks.
void expect_the_same_on(dist::Ranks& ranks) {
  for (const OptimizerConfig& config : configs()) {
    const Parameters alone = model(), together = model();
    const auto one = make_optimizer(config, alone);
    const auto many = make_optimizer(config, together, ranks);
    for (int step = 0; step < 3; ++step) {
      set_gradients(alone, step, 4);
      set_gradients(together, step, 4);
      const StepResult a = one->step(1.0 / (1 + step), 4), b = many->step(1.0 / (1 + step), 4);
      EXPECT_EQ(a.grad_norm, b.grad_norm);
      EXPECT_EQ(a.group_norms, b.group_norms);
      EXPECT_TRUE(equal(alone, together)) << config.name << " step " << step;
    }
    const Parameters whole = one->state(), gathered = many->state();
    if (ranks.first())
      EXPECT_TRUE(equal(whole, gathered)) << config.name;
    else
      EXPECT_TRUE(gathered.empty());
    EXPECT_EQ(to_line(one->numbers()), to_line(many->numbers()));
    EXPECT_EQ(ranks.sum_of(static_cast<double>(many->state_bytes())), one->state_bytes());

    // A number that one rank alone owns stops all.
    set_gradients(together, 4);
    together[7].second.grad()[699][59] = std::nan("");
    EXPECT_EQ(many->step(1).not_finite, "embed_out.weight");
    EXPECT_TRUE(equal(alone, together));

    // One's state goes on with many.
    const TemporaryFolder folder;
    tensor::write_tensors(folder / "state", whole);
    const auto resumed = make_optimizer(config, together, ranks);
    resumed->load(formats::SafetensorsFile(folder / "state"), one->numbers(), "n");
    set_gradients(alone, 5);
    set_gradients(together, 5);
    one->step(1);
    resumed->step(1);
    EXPECT_TRUE(equal(alone, together)) << config.name;
  }
}

TEST(Optimizer, IsTheSameOnAnyNumberOfRanks) {
  for (const int size : {2, 4})
    dist::ThreadRanks::run(size, [](dist::Ranks& ranks) { expect_the_same_on(ranks); });
}

TEST(World, Optimizer) { expect_the_same_on(dist::world()); }

// Each keeps about its share.
TEST(Optimizer, SharesItsState) {
  const std::int64_t whole = make_optimizer({}, model())->state_bytes();
  std::mutex mutex;
  std::vector<std::int64_t> shares;
  dist::ThreadRanks::run(4, [&](dist::Ranks& ranks) {
    const auto optimizer = make_optimizer({}, model(), ranks);
    const std::lock_guard lock(mutex);
    shares.push_back(optimizer->state_bytes());
  });
  for (const std::int64_t share : shares)
    EXPECT_NEAR(static_cast<double>(share), static_cast<double>(whole) / 4, 2.0 * kBlock * 8);
}

}  // namespace
}  // namespace cresco::optim
