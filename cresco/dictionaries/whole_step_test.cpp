#include "cresco/dictionaries/whole_step.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include "cresco/base/random.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"
#include "cresco/dictionaries/crosscoder_reference.h"
#include "cresco/formats/safetensors.h"
#include "cresco/kernels/crosscoder_whole.h"

#include <malloc.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <numeric>

namespace cresco::dictionaries {
namespace {

// Rows that are no multiple of a piece, columns of padding, and more than one tile of the encoder.
constexpr std::int64_t kRows = 150, kHeads = 3, kWidth = 21, kFeatures = 29, kTile = 600;

at::Tensor normal(at::IntArrayRef shape, const char* purpose, double deviation) {
  at::Tensor out = at::empty(shape, at::kDouble);
  RandomStream random(1, purpose);
  double* const to = out.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < out.numel(); ++i) to[i] = deviation * random.normal();
  return out;
}

struct Case {
  std::string name;
  CrosscoderConfig config;
  Activation activation;
  double noise = 0;
};

std::vector<Case> cases() {
  CrosscoderConfig config{
      .frequency_scale = 0.05, .tanh_stretch_coefficient = 1.7, .d_sae = kFeatures};
  std::vector<Case> all{{"jumprelu", config, {}}, {"noise", config, {}, 0.3}};
  all.push_back({"topk", config, {.kind = ActivationKind::TopK, .k = 3}});
  all.push_back(
      {"batchtopk", config, {.kind = ActivationKind::BatchTopK, .k = 3, .slice_rows = kRows}});
  config.optimizer = "adamw";
  config.weight_decay = 2;
  all.push_back({"adamw", config, {}});
  config.optimizer = "adam";
  config.weight_decay = 0;
  config.auxk_coefficient = 0.7;
  config.auxk_k = 2;
  config.dead_window_steps = 1;
  all.push_back({"auxk", config, {}});
  return all;
}

CrosscoderParameters start_of(const Case& c, at::ScalarType dtype) {
  CrosscoderParameters p{
      normal({kHeads, kWidth, kFeatures}, "W_E", 0.2), normal({kHeads, kFeatures}, "b_E", 0.1),
      normal({kHeads, kFeatures, kWidth}, "W_D", 0.2), normal({kHeads, kWidth}, "b_D", 0.1)};
  p.decoder_KFD.select(1, 3).zero_();            // no direction at all
  p.decoder_KFD[1][4].zero_();                   // none at one head
  p.encoder_bias_KF.select(1, 5).fill_(-1000.);  // silent, and never positive
  if (c.activation.has_threshold()) {
    // On both sides of half the window; the last four are never reached.
    p.log_threshold_F = at::linspace(-3, 1.4, kFeatures, at::kDouble);
    p.log_threshold_F.narrow(0, kFeatures - 4, 4).fill_(2.5);
  }
  const auto cast = [&](at::Tensor& t) {
    if (t.defined()) t = t.to(dtype);
  };
  for (at::Tensor* t :
       {&p.encoder_KDF, &p.encoder_bias_KF, &p.decoder_KFD, &p.decoder_bias_KD, &p.log_threshold_F})
    cast(*t);
  return p;
}

at::Tensor stack_of(at::ScalarType dtype) {
  return normal({2 * kRows, kHeads, kWidth}, "x", 1).to(dtype);
}

// Whole batches and the end of an epoch, which is shorter.
std::vector<std::int64_t> rows_of(std::int64_t step) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(step % 3 == 2 ? 37 : kRows));
  std::iota(rows.begin(), rows.end(), 7 * step);
  return rows;
}

StepRates rates_of(std::int64_t step) {
  return {.step = step, .l1_coefficient = 0.3, .lr = 1e-2, .threshold_lr = 2e-2};
}

LossTerms load_and_update(CrosscoderStep& step, const at::Tensor& x_VKD, const Case& c,
                          std::int64_t at) {
  const auto rows = rows_of(at);
  step.load(x_VKD, rows, {c.noise, 5, at});
  return step.update(rates_of(at));
}

void expect_close(double value, double expected, double tolerance, const char* what) {
  EXPECT_NEAR(value, expected, tolerance * std::max(1.0, std::abs(expected))) << what;
}

void expect_same(const LossTerms& a, const LossTerms& b, double tolerance) {
  expect_close(a.loss, b.loss, tolerance, "loss");
  expect_close(a.l_rec, b.l_rec, tolerance, "l_rec");
  expect_close(a.l_s, b.l_s, tolerance, "l_s");
  expect_close(a.l_aux, b.l_aux, tolerance, "l_aux");
  expect_close(a.sum_squared_error, b.sum_squared_error, tolerance, "sum_squared_error");
  EXPECT_DOUBLE_EQ(a.l0, b.l0);
  EXPECT_EQ(a.num_silent, b.num_silent);
}

// The distance of two tensors, relative to the length of the second.
double distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor exact = b.to(at::kCPU, at::kDouble);
  const double length = exact.norm().item<double>();
  return (a.to(at::kCPU, at::kDouble) - exact).norm().item<double>() / (length > 0 ? length : 1);
}

void expect_same(const std::vector<tensor::NamedTensor>& a,
                 const std::vector<tensor::NamedTensor>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    ASSERT_EQ(a[i].second.sizes(), b[i].second.sizes()) << a[i].first;
    EXPECT_TRUE(a[i].second.isfinite().all().item<bool>()) << a[i].first;
    EXPECT_LE(distance(a[i].second, b[i].second), tolerance) << a[i].first;
  }
}

TEST(WholeStep, TrainsAsTheReferenceDoes) {
  reference::Fixture f;
  const CrosscoderConfig config{
      .l1_coefficient = 0.02, .frequency_scale = 0.01, .tanh_stretch_coefficient = 1.0, .d_sae = 5};
  const auto step =
      make_whole_step(config, {}, reference::parameters_of(f.sizes, f.weights, at::kDouble), 6);
  const auto rate = [](int tensor) { return tensor == 4 ? 1e-3 : 1e-2; };
  const auto losses = reference::train(f.sizes, f.weights, f.setting, f.x, 20, false, rate);
  const at::Tensor x_BKD = reference::tensor_of(f.x, {4, 2, 3}, at::kDouble);
  const std::vector<std::int64_t> rows{0, 1, 2, 3};
  for (int i = 0; i < 20; ++i) {
    step->load(x_BKD, rows);
    expect_close(
        step->update({.step = i, .l1_coefficient = 0.02, .lr = 1e-2, .threshold_lr = 1e-3}).loss,
        losses[static_cast<std::size_t>(i)], 1e-11, "loss");
  }
  expect_same(step->parameters().named(),
              reference::parameters_of(f.sizes, f.weights, at::kDouble).named(), 1e-10);
}

TEST(WholeStep, WidensRowsInBf16) {
  reference::Fixture f;
  const auto step = make_whole_step({.d_sae = 5}, {},
                                    reference::parameters_of(f.sizes, f.weights, at::kFloat), 6);
  const at::Tensor x_BKD = reference::tensor_of(f.x, {4, 2, 3}, at::kFloat).to(at::kBFloat16);
  const std::vector<std::int64_t> rows{3, 1};
  CrosscoderParameters stored, widened;
  step->load(x_BKD, rows);
  step->gradients(rates_of(0), stored);
  step->load(x_BKD.to(at::kFloat), rows);
  step->gradients(rates_of(0), widened);
  expect_same(stored.named(), widened.named(), 0);
}

// The two steps, computed in quite different ways, agree on losses and gradients.
TEST(WholeStep, HasTheGradientsOfTheStepByEntries) {
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kDouble, 1e-11}, std::pair{at::kFloat, 1e-5}})
    for (const Case& c : cases()) {
      SCOPED_TRACE(fmt::format("{} {}", c.name, c10::toString(dtype)));
      const at::Tensor x_VKD = stack_of(dtype);
      const auto start = start_of(c, dtype);
      const auto sparse = make_sparse_step(c.config, c.activation, start, kRows);
      const auto whole = make_whole_step(c.config, c.activation, start, kRows, kTile);
      // A batch that is not the largest; with AuxK the second is the first one with dead features.
      for (const std::int64_t at : {0, 2}) {
        const auto rows = rows_of(at);
        CrosscoderParameters a, b;
        sparse->load(x_VKD, rows, {c.noise, 5, at});
        whole->load(x_VKD, rows, {c.noise, 5, at});
        expect_close(whole->batch_deviation(), sparse->batch_deviation(), tolerance, "deviation");
        expect_same(whole->gradients(rates_of(at), a), sparse->gradients(rates_of(at), b),
                    tolerance);
        expect_same(a.named(), b.named(), 2 * tolerance);
      }
    }
}

TEST(WholeStep, UpdatesAsTheStepByEntriesDoesAndReadsItsStates) {
  const TemporaryFolder folder;
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const at::Tensor x_VKD = stack_of(at::kDouble);
    const auto start = start_of(c, at::kDouble);
    const auto sparse = make_sparse_step(c.config, c.activation, start, kRows);
    const auto whole = make_whole_step(c.config, c.activation, start, kRows, kTile);
    double revived = 0;
    for (std::int64_t at = 0; at < 6; ++at) {
      const LossTerms terms = load_and_update(*whole, x_VKD, c, at);
      expect_same(terms, load_and_update(*sparse, x_VKD, c, at), 1e-10);
      revived += terms.l_aux;
    }
    EXPECT_EQ(revived > 0, c.config.auxk_coefficient > 0);
    EXPECT_GT(distance(whole->parameters().decoder_KFD, start.decoder_KFD), 0.05);
    // Adam takes steps of up to lr along gradients that are nothing but rounding.
    expect_same(whole->parameters().named(), sparse->parameters().named(), 2e-8);
    expect_same(whole->state(), sparse->state(), 2e-8);

    // Each goes on from the other's state; from its own bit for bit.
    tensor::write_tensors(folder / "state.safetensors", whole->state());
    tensor::write_tensors(folder / "portable.safetensors", whole->portable_state());
    const formats::SafetensorsFile file(folder / "state.safetensors");
    const auto resumed = make_whole_step(c.config, c.activation, start, kRows, kTile);
    const auto carried = make_whole_step(c.config, c.activation, start, kRows, kTile);
    resumed->load_state(file);
    sparse->load_state(file);
    carried->load_portable_state(formats::SafetensorsFile(folder / "portable.safetensors"));
    const LossTerms terms = load_and_update(*whole, x_VKD, c, 6);
    EXPECT_EQ(load_and_update(*resumed, x_VKD, c, 6).loss, terms.loss);
    expect_same(resumed->state(), whole->state(), 0);
    expect_same(load_and_update(*sparse, x_VKD, c, 6), terms, 1e-10);
    if (c.config.auxk_coefficient == 0)  // a portable state does not know what fired when
      expect_same(load_and_update(*carried, x_VKD, c, 6), terms, 1e-10);
  }
}

TEST(WholeStep, OfAnotherPrecisionRoundsTheEncodersInputs) {
  Case c = cases()[0];
  c.config.amp_dtype = "bf16";
  const at::Tensor x_VKD = stack_of(at::kFloat);
  const auto start = start_of(c, at::kFloat);
  const auto sparse = make_sparse_step(c.config, c.activation, start, kRows);
  const auto whole = make_whole_step(c.config, c.activation, start, kRows);
  const LossTerms terms = load_and_update(*whole, x_VKD, c, 0);
  expect_same(terms, load_and_update(*sparse, x_VKD, c, 0), 1e-5);
  c.config.amp_dtype = "fp32";
  const auto exact = make_whole_step(c.config, c.activation, start, kRows);
  EXPECT_GT(std::abs(load_and_update(*exact, x_VKD, c, 0).loss / terms.loss - 1), 1e-6);
}

TEST(WholeStep, LeavesEverythingWhenTheLossIsNotFinite) {
  const Case c = cases()[0];
  at::Tensor x_VKD = stack_of(at::kFloat);
  x_VKD[0][0][0] = std::nan("");
  const auto step = make_whole_step(c.config, c.activation, start_of(c, at::kFloat), kRows);
  const CrosscoderParameters before = step->parameters();
  std::vector<tensor::NamedTensor> kept;
  for (const auto& [name, t] : step->state()) kept.emplace_back(name, t.clone());
  EXPECT_FALSE(std::isfinite(load_and_update(*step, x_VKD, c, 0).loss));
  expect_same(step->state(), kept, 0);
}

double resident_bytes() {
  ::malloc_trim(0);  // what was freed is not there any more
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

// Of the CPU's arrays, which are those of a GPU: after an update all of them have been touched.
TEST(WholeStep, TakesTheBytesThatAreForetold) {
  const std::int64_t B = 512, K = 4, d = 64, F = 4096;
  for (Case& c : cases()) {
    SCOPED_TRACE(c.name);
    c.config.d_sae = F;
    const at::Tensor x_VKD = normal({B, K, d}, "x", 1).to(at::kFloat),
                     drawn_DF = normal({d, F}, "encoder", 0.1).to(at::kFloat);
    const auto start = initial_parameters(c.config, K, drawn_DF, drawn_DF.t().contiguous());
    std::vector<std::int64_t> rows(static_cast<std::size_t>(B));
    std::iota(rows.begin(), rows.end(), 0);
    const auto updated = [&] {
      auto step = make_whole_step(c.config, c.activation, start, B);
      step->load(x_VKD, rows);
      step->update({.step = 5, .l1_coefficient = 0.3, .lr = 1e-3, .threshold_lr = 1e-4});
      return step;
    };
    updated();  // what the libraries keep is there from now on
    const double before = resident_bytes();
    const auto step = updated();
    const double kept = whole_step_bytes(c.config, c.activation, B, K, d).kept;
    EXPECT_GT(kept, 50e6);
    EXPECT_NEAR((resident_bytes() - before) / kept, 1, 0.1);
  }
}

TEST(WholeStep, SaysWhatADeviceCannotTake) {
  const auto refused = [](at::Device device, CrosscoderConfig config, ActivationKind kind) {
    EXPECT_THROW(check_device(device, config, {.kind = kind}), UsageError);
  };
  const at::Device gpu(at::kCUDA, 1);
  refused(gpu, {}, ActivationKind::Gated);
  refused(gpu, {}, ActivationKind::SharedJumpRelu);
  refused(gpu, {.optimizer = "sparse_adam"}, ActivationKind::JumpRelu);
  refused(at::kCPU, {.amp_dtype = "tf32"}, ActivationKind::JumpRelu);
  check_device(gpu, {.amp_dtype = "tf32"}, {.kind = ActivationKind::BatchTopK});
  check_device(at::kCPU, {.optimizer = "sparse_adam"}, {.kind = ActivationKind::Gated});
}

// The kernels by themselves and the whole step, on a GPU and here.
class OnAGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU answers, or this build has no CUDA";
  }

  const at::Device gpu_{at::kCUDA, 0};
  const kernels::Place there_{.gpu = true};

  // A kernel's results from the same arguments in both memories.
  template <class Run>
  void compare(const Run& run, std::vector<at::Tensor> arguments, double tolerance) const {
    std::vector<at::Tensor> moved;
    for (const at::Tensor& t : arguments) moved.push_back(t.to(gpu_));
    run(kernels::Place{}, arguments);
    run(there_, moved);
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_LE(distance(moved[i], arguments[i]), tolerance);
    }
  }

  template <class Number>
  void compare_kernels(at::ScalarType dtype, double tolerance) const;
};

template <class Number>
void OnAGpu::compare_kernels(at::ScalarType dtype, double tolerance) const {
  using Tensors = std::vector<at::Tensor>;
  const std::int64_t B = kRows, F = 300, D = 200;
  const std::int64_t C = kernels::num_pieces(B, kernels::kPieceRows),
                     E = kernels::num_pieces(B, kernels::kErrorPieceRows);
  const auto some = [&](at::IntArrayRef shape, const char* name) {
    return normal(shape, name, 1).to(dtype);
  };
  const auto sums = [](at::IntArrayRef shape, at::ScalarType type) {
    return at::ones(shape, type);
  };
  const auto at = [](const at::Tensor& t) { return t.mutable_data_ptr<Number>(); };
  const at::Tensor p_BF = some({B, F}, "p"), theta_F = some({F}, "theta").abs();
  at::Tensor norm_F = some({F}, "norm").abs();
  norm_F[7] = 0;
  const Number stretch = 1.5, half_window = 2;
  compare(
      [&](const kernels::Place& place, const Tensors& t) {
        kernels::whole_codes<Number>(
            place, {B, F, at(t[0]), at(t[1]), at(t[2]), stretch, at(t[3]),
                    t[4].mutable_data_ptr<double>(), t[5].mutable_data_ptr<std::int64_t>()});
      },
      {p_BF, norm_F, theta_F, some({B, F}, "code"), sums({C, F}, at::kDouble),
       sums({C, F}, at::kLong)},
      tolerance);
  compare(
      [&](const kernels::Place& place, const Tensors& t) {
        kernels::whole_error<Number>(
            place, {B, D, at(t[0]), at(t[1]), 2 * D, Number(0.5), Number(0.1), at(t[2]),
                    t[3].mutable_data_ptr<double>(), at(t[4])});
      },
      {some({D}, "bias"), some({B, 2 * D}, "x"), some({B, D}, "r"), sums({E, D}, at::kDouble),
       sums({E, D}, dtype)},
      tolerance);
  for (const bool has_gates : {true, false})
    compare(
        [&](const kernels::Place& place, const Tensors& t) {
          kernels::whole_differentiate<Number>(
              place, {B, F, at(t[0]), has_gates ? at(t[1]) : nullptr, at(t[2]), at(t[3]), stretch,
                      half_window, at(t[4]), at(t[5]), t[6].mutable_data_ptr<double>(), at(t[7])});
        },
        {p_BF, theta_F, norm_F, some({F}, "pull"), some({B, F}, "product"), some({B, F}, "dp"),
         sums({C, F}, at::kDouble), sums({C, F}, dtype)},
        tolerance);
  kernels::AdamRates rates;
  rates.step_size = 0.01;
  rates.root_correction = 0.7;
  for (const bool writes : {true, false})
    compare(
        [&](const kernels::Place& place, const Tensors& t) {
          kernels::whole_update<Number>(place, {.rows = F,
                                                .columns = D,
                                                .tensor = {.value = at(t[0]),
                                                           .exp_avg = at(t[1]),
                                                           .exp_avg_sq = at(t[2]),
                                                           .gradient = writes ? at(t[3]) : nullptr},
                                                .rates = rates,
                                                .gradient = at(t[4]),
                                                .pull_F = at(t[5]),
                                                .code_pull_F = at(t[6]),
                                                .norm_F = at(t[7]),
                                                .new_norm_F = at(t[8])});
        },
        {some({F, D}, "w"), some({F, D}, "m"), some({F, D}, "v").abs(), sums({F, D}, dtype),
         some({F, D}, "g"), some({F}, "pull"), some({F}, "code pull"), norm_F, sums({F}, dtype)},
        tolerance);
  compare(
      [&](const kernels::Place& place, const Tensors& t) {
        kernels::whole_norms<Number>(place, {F, D, at(t[0]), at(t[1])});
      },
      {some({F, D}, "w"), sums({F}, dtype)}, tolerance);
}

TEST_F(OnAGpu, KernelsAgreeWithThoseHere) {
  compare_kernels<float>(at::kFloat, 1e-5);
  compare_kernels<double>(at::kDouble, 1e-12);
}

TEST_F(OnAGpu, TrainsAsItDoesHere) {
  for (const char* amp_dtype : {"fp32", "tf32", "bf16"})
    for (const auto dtype : {at::kDouble, at::kFloat})
      for (Case c : cases()) {
        SCOPED_TRACE(fmt::format("{} {} {}", c.name, c10::toString(dtype), amp_dtype));
        const at::Tensor x_VKD = stack_of(dtype);
        const auto start = start_of(c, dtype);
        const auto here = make_whole_step(c.config, c.activation, start, kRows, kTile);
        c.config.amp_dtype = amp_dtype;
        const auto there = make_whole_step(c.config, c.activation, start, kRows, kTile, {}, gpu_);
        const bool exact = c.config.amp_dtype == "fp32" || dtype == at::kDouble;
        if (!exact) {  // a gate may open that was closed
          const double loss = load_and_update(*here, x_VKD, c, 0).loss;
          expect_close(load_and_update(*there, x_VKD.to(gpu_), c, 0).loss, loss, 0.02, "loss");
          continue;
        }
        const double tolerance = dtype == at::kDouble ? 1e-9 : 1e-4;
        for (std::int64_t at = 0; at < 4; ++at)
          expect_same(load_and_update(*there, x_VKD.to(gpu_), c, at),
                      load_and_update(*here, x_VKD, c, at), tolerance);
        expect_same(there->parameters().named(), here->parameters().named(), tolerance);
        std::vector<tensor::NamedTensor> state;
        for (const auto& [name, t] : there->state()) state.emplace_back(name, t.cpu());
        expect_same(state, here->state(), tolerance);
      }
}

}  // namespace
}  // namespace cresco::dictionaries
