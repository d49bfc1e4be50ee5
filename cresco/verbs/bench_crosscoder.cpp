#include "cresco/verbs/bench_crosscoder.h"

#include "cresco/base/files.h"
#include "cresco/base/random.h"
#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/dictionaries/random_source.h"
#include "cresco/dictionaries/step_cost.h"
#include "cresco/kernels/isa.h"
#include "cresco/tensor/bridge.h"
#include "cresco/tensor/place.h"
#include "cresco/verbs/measuring.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::verbs {
namespace {

using dictionaries::CrosscoderConfig;
using dictionaries::CrosscoderParameters;
using dictionaries::CrosscoderStep;

struct Shape {
  std::int64_t heads, width, features, rows;
};

Shape shape_of(const std::vector<double>& given) {
  require_usage(given.size() == 4, "--shape has {} numbers, expected four: K,d,D,B", given.size());
  for (const double n : given)
    require_usage(n >= 1 && n == std::floor(n) && n < 1e7, "--shape: {} is no size", n);
  const auto at = [&](std::size_t i) { return static_cast<std::int64_t>(given[i]); };
  return {at(0), at(1), at(2), at(3)};
}

std::span<float> numbers(at::Tensor& t) {
  return {t.mutable_data_ptr<float>(), static_cast<std::size_t>(t.numel())};
}

// Rows that are sums of a few of D/2 directions, each of which turns and grows over the snapshots,
// and noise; of the size that center_scale leaves.
at::Tensor synthetic_rows(const Shape& s, std::int64_t num_rows) {
  const std::int64_t atoms = std::max<std::int64_t>(2, s.features / 2), per_row = 12;
  at::Tensor begin_AD = at::empty({atoms, s.width}), end_AD = at::empty({atoms, s.width});
  RandomStream(0, "bench/begin").fill_normal(numbers(begin_AD), 0, 1);
  RandomStream(0, "bench/end").fill_normal(numbers(end_AD), 0, 1);
  at::Tensor loadings_VA = at::zeros({num_rows, atoms});
  RandomStream random(0, "bench/loadings");
  for (std::int64_t v = 0; v < num_rows; ++v)
    for (std::int64_t i = 0; i < per_row; ++i)
      loadings_VA[v][static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(atoms)))] =
          0.5 + random.uniform();
  at::Tensor x_VKD = at::empty({num_rows, s.heads, s.width});
  for (std::int64_t k = 0; k < s.heads; ++k) {
    const double turned = 1.2 * static_cast<double>(k) / static_cast<double>(s.heads);
    at::Tensor noise_VD = at::empty({num_rows, s.width});
    RandomStream(0, "bench/noise", static_cast<std::uint64_t>(k))
        .fill_normal(numbers(noise_VD), 0, 0.3);
    at::Tensor x_VD =
        loadings_VA.mm(begin_AD * std::cos(turned) + end_AD * std::sin(turned)) + noise_VD;
    x_VD -= x_VD.mean(0);
    x_VKD.select(1, k).copy_(x_VD / x_VD.square().mean().sqrt());
  }
  return x_VKD;
}

constexpr double kSmallRate = 5e-5;
constexpr std::int64_t kStepsOfDenseStart = 4;

struct Start {
  std::unique_ptr<CrosscoderStep> step;
  at::Tensor x_BKD;
  CrosscoderConfig config;
  std::string how;
};

std::vector<std::int64_t> first_rows(std::int64_t count) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

Start make_start(const BenchCrosscoderConfig& config, CrosscoderConfig training, const Shape& s,
                 at::Device device, Progress& progress) {
  training.d_sae = s.features;
  const auto drawn =
      dictionaries::draw_initial_matrices(dictionaries::RandomKind::Philox, 0, s.width, s.features);
  const CrosscoderParameters initial =
      initial_parameters(training, s.heads, drawn.encoder_DF, drawn.decoder_FD);
  const std::int64_t num_rows = config.active > 0 ? 4 * s.rows : s.rows;
  const at::Tensor x_VKD = synthetic_rows(s, num_rows).to(device);
  Start start{dictionaries::make_step(training, {}, initial, s.rows, {}, device),
              x_VKD.narrow(0, 0, s.rows), training, ""};
  // From moments of zero an update of Adam's is a sign, which rounding turns over: a state that
  // others go on from has seen some steps.
  const std::int64_t num_steps = config.active > 0 ? config.train_steps : kStepsOfDenseStart;
  const double lr = config.active > 0 ? 1e-3 : kSmallRate;
  progress.begin("train", num_steps, "step");
  for (std::int64_t step = 0; step < num_steps; ++step) {
    const auto order =
        permutation(static_cast<std::uint32_t>(num_rows),
                    RandomStream(0, "bench/order", static_cast<std::uint64_t>(step)));
    const std::vector<std::int64_t> rows(order.begin(), order.begin() + s.rows);
    start.step->load(x_VKD, rows);
    const auto terms = start.step->update({.step = step,
                                           .l1_coefficient = training.l1_coefficient,
                                           .lr = lr,
                                           .threshold_lr = lr * training.jumprelu_lr_factor});
    progress.update(step + 1, fmt::format("loss {:.4g} | l0 {:.1f}", terms.loss, terms.l0));
  }
  progress.end();
  if (config.active <= 0) {
    start.how = fmt::format("{} steps after the start", num_steps);
    return start;
  }
  const double scale =
      dictionaries::threshold_scale(start.step->parameters(), start.x_BKD.cpu(), config.active);
  for (const auto& [name, t] : start.step->state())
    if (name == "log_threshold_F") t.add_(std::log(scale));
  start.how =
      fmt::format("trained {} steps on synthetic rows, thresholds times {:.3g} to reach {:.2g}",
                  config.train_steps, scale, config.active);
  return start;
}

void write_start(const Path& path, const Start& start) {
  auto tensors = start.step->portable_state();
  tensors.emplace_back("x", start.x_BKD);
  const CrosscoderConfig& c = start.config;
  tensor::write_tensors(
      path, tensors,
      {{"lr", fmt::format("{}", kSmallRate)},
       {"jumprelu_lr_factor", fmt::format("{}", c.jumprelu_lr_factor)},
       {"l1_coefficient", fmt::format("{}", c.l1_coefficient)},
       {"tanh_stretch_coefficient", fmt::format("{}", c.tanh_stretch_coefficient)},
       {"frequency_scale", fmt::format("{}", c.frequency_scale)},
       {"window", fmt::format("{}", dictionaries::kThresholdWindow)},
       {"how", start.how}});
}

Start read_start(const Path& path, CrosscoderConfig training, at::Device device) {
  const formats::SafetensorsFile file(path);
  const auto read = [&](const char* name) { return tensor::to_tensor(file.tensor(name)); };
  const CrosscoderParameters initial{
      .encoder_KDF = read("W_E"),
      .encoder_bias_KF = read("b_E"),
      .decoder_KFD = read("W_D"),
      .decoder_bias_KD = read("b_D"),
      .log_threshold_F = read("activation_function.log_jumprelu_threshold")};
  require(initial.decoder_KFD.dim() == 3, "{}: 'W_D' has shape {}, expected (K, D, d)",
          path.string(), formats::shape_text(initial.decoder_KFD.sizes().vec()));
  training.d_sae = initial.num_features();
  Start start{nullptr, read("x").to(device), training, ""};
  start.step = dictionaries::make_step(training, {}, initial, start.x_BKD.size(0), {}, device);
  start.step->load_portable_state(file);
  const auto& metadata = file.metadata();
  if (const auto how = metadata.find("how"); how != metadata.end()) start.how = how->second;
  return start;
}

// The machine's own matrix product of the encoder with the batch, in ms.
double product_ms(const Shape& s, std::int64_t repeats, const std::string& precision,
                  at::Device device) {
  const auto dtype = device.is_cuda() && precision == "bf16" ? at::kBFloat16 : at::kFloat;
  if (device.is_cuda()) at::globalContext().setAllowTF32CuBLAS(precision != "fp32");
  const auto options = at::TensorOptions(dtype).device(device);
  const at::Tensor a = at::rand({s.features, s.heads * s.width}, options),
                   b = at::rand({s.rows, s.heads * s.width}, options);
  at::Tensor out = at::empty({s.features, s.rows}, options);
  std::vector<double> times;
  tensor::wait_for(device);
  for (std::int64_t i = 0; i <= repeats; ++i) {
    const double started = now_seconds();
    at::mm_out(out, a, b.t());
    tensor::wait_for(device);
    times.push_back((now_seconds() - started) * 1e3);
  }
  return median(times);
}

}  // namespace

Outcome run_bench_crosscoder(const BenchCrosscoderConfig& config, VerbContext& context) {
  require_usage(config.repeats > 0, "--repeats is {}, expected at least 1", config.repeats);
  require_usage(config.active >= 0 && config.active < 1, "--active is {}, expected 0 to 1",
                config.active);
  require_usage(config.train_steps >= 1, "--train-steps is {}, expected at least 1",
                config.train_steps);
  require_usage(
      config.precision == "fp32" || config.precision == "bf16" || config.precision == "tf32",
      "--precision '{}' is not one of fp32, bf16, tf32", config.precision);
  require_usage(config.shape.empty() != config.state.empty(),
                "one of --shape and --state is needed, and not both");
  for (const std::string& file : {config.write_state, config.updated})
    if (!file.empty()) make_output_file(file, context.options.overwrite, {config.state});
  const at::Device device = tensor::parse_device(context.options.device);
  CrosscoderConfig training;
  training.amp_dtype = config.precision;
  Start start = config.state.empty()
                    ? make_start(config, training, shape_of(config.shape), device, context.progress)
                    : read_start(config.state, training, device);
  if (!config.write_state.empty()) {
    write_start(config.write_state, start);
    return {.summary = {{"state", config.write_state}, {"how", start.how}},
            .text = fmt::format("{}: {}\n", config.write_state, start.how)};
  }

  const Shape s{start.x_BKD.size(1), start.x_BKD.size(2), start.config.d_sae, start.x_BKD.size(0)};
  const auto rows = first_rows(s.rows);
  const at::Tensor x_BKD = start.x_BKD.contiguous();
  std::vector<double> times;
  dictionaries::LossTerms terms;
  dictionaries::StepTimes before;
  for (std::int64_t i = 0; i <= config.repeats; ++i) {
    // Each timed step is that of the state given.
    if (i > 0 && !config.state.empty())
      start.step->load_portable_state(formats::SafetensorsFile(config.state));
    if (i == 1) before = start.step->times();
    const double started = now_seconds();
    start.step->load(x_BKD, rows);
    terms = start.step->update({.step = i,
                                .l1_coefficient = start.config.l1_coefficient,
                                .lr = kSmallRate,
                                .threshold_lr = kSmallRate * start.config.jumprelu_lr_factor});
    tensor::wait_for(device);
    if (i > 0) times.push_back((now_seconds() - started) * 1e3);
    if (i == 0 && !config.updated.empty())
      tensor::write_tensors(config.updated, start.step->parameters().named());
  }
  const dictionaries::StepTimes after = start.step->times();
  Json phases;
  const auto phase = [&](const char* name, double dictionaries::StepTimes::*part) {
    phases[name] = (after.*part - before.*part) / static_cast<double>(config.repeats) * 1e3;
  };
  phase("gather", &dictionaries::StepTimes::gather);
  phase("encode", &dictionaries::StepTimes::encode);
  phase("gates", &dictionaries::StepTimes::gates);
  phase("decode", &dictionaries::StepTimes::decode);
  phase("band", &dictionaries::StepTimes::band);
  phase("backward", &dictionaries::StepTimes::backward);
  phase("small", &dictionaries::StepTimes::small);

  const double ms = median(times);
  const double flops =
      10.0 * static_cast<double>(s.rows * s.heads) * static_cast<double>(s.width * s.features);
  const double product = product_ms(s, 3, config.precision, device);
  const double gemm_gflops = flops / 5 / product / 1e6;
  const std::string kernels = kernels_used(device.is_cuda(), config.precision == "bf16");
  Outcome outcome;
  outcome.summary = {{"ms_per_step", ms},
                     {"effective_gflops", flops / ms / 1e6},
                     {"rows_per_second", static_cast<double>(s.rows) / ms * 1e3},
                     {"l0", terms.l0},
                     {"active", terms.l0 / static_cast<double>(s.features)},
                     {"loss", terms.loss},
                     {"peak_bytes", peak_bytes()},
                     {"phases", phases},
                     {"product_ms", product},
                     {"gemm_gflops", gemm_gflops},
                     {"share_of_gemm", flops / ms / 1e6 / gemm_gflops},
                     {"ratio_to_product", ms / product},
                     {"kernels", kernels},
                     {"device", device.str()},
                     {"how", start.how}};
  outcome.text = fmt::format(
      "K {} d {} D {} B {} ({}): {:.1f} ms a step, {:.0f} effective GFLOP/s, {:.2f} of one matrix "
      "product of that size; l0 {:.1f} ({:.2f} % of D)\n",
      s.heads, s.width, s.features, s.rows, kernels, ms, flops / ms / 1e6, ms / product, terms.l0,
      100 * terms.l0 / static_cast<double>(s.features));
  for (const auto& [name, value] : phases.items())
    outcome.text += fmt::format("{:>10} {:8.2f} ms\n", name, value.get<double>());
  return outcome;
}

}  // namespace cresco::verbs
