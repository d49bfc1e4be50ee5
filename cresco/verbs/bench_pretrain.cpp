#include "cresco/verbs/bench_pretrain.h"

#include "cresco/base/files.h"
#include "cresco/base/random.h"
#include "cresco/dist/gradient_buckets.h"
#include "cresco/kernels/isa.h"
#include "cresco/optim/optimizer.h"
#include "cresco/pretrain/train_step.h"
#include "cresco/tensor/place.h"
#include "cresco/verbs/measuring.h"
#include "cresco/verbs/vocabulary.h"

#include <ATen/ATen.h>

namespace cresco::verbs {
namespace {

using pretrain::Recipe;

at::Tensor random_ids(const Recipe& recipe) {
  at::Tensor ids_NT =
      at::empty({recipe.batch.sequences, recipe.data.sequence_length + 1}, at::kLong);
  RandomStream random(static_cast<std::uint64_t>(recipe.seed), "bench/ids");
  auto* const to = ids_NT.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids_NT.numel(); ++i)
    to[i] = static_cast<std::int64_t>(
        random.below(static_cast<std::uint64_t>(recipe.model.vocab_size())));
  return ids_NT;
}

std::vector<tensor::NamedTensor> initial_weights(const Recipe& recipe) {
  return pretrain::initialise(recipe.model, recipe.init.name,
                              static_cast<std::uint64_t>(recipe.seed));
}

Outcome write_start(const Path& path, const Recipe& recipe) {
  std::vector<tensor::NamedTensor> tensors = initial_weights(recipe);
  tensors.emplace_back("ids", random_ids(recipe));
  const optim::OptimizerConfig& o = recipe.optimizer;
  tensor::write_tensors(path, tensors,
                        {{"config", recipe.model.to_json("float32", {}).dump()},
                         {"lr", fmt::format("{}", o.lr)},
                         {"beta1", fmt::format("{}", o.betas[0])},
                         {"beta2", fmt::format("{}", o.betas[1])},
                         {"eps", fmt::format("{}", o.eps)},
                         {"weight_decay", fmt::format("{}", o.weight_decay)},
                         {"grad_clip", fmt::format("{}", o.grad_clip)}});
  return {.summary = {{"start", path.string()}}, .text = fmt::format("{}\n", path.string())};
}

}  // namespace

Outcome run_bench_pretrain(const BenchPretrainConfig& config, VerbContext& context) {
  require_usage(config.repeats > 0, "--repeats is {}, expected at least 1", config.repeats);
  require_usage(config.sequences >= 0, "--sequences is {}, expected 0 or more", config.sequences);
  const at::Device device = tensor::parse_device(context.options.device);
  Recipe recipe = config.settings;
  if (recipe.model.vocab_size() == 0 && !recipe.data.sources().empty()) resolve_vocabulary(recipe);
  require_usage(recipe.model.vocab_size() > 0,
                "model.vocab_size is {}: a size is needed where there is no tokenizer",
                recipe.model.vocab_size());
  recipe.batch.sequences = config.sequences > 0 ? config.sequences : recipe.micro_sequences();
  recipe.batch.micro_sequences = 0;
  pretrain::check(recipe);
  if (context.options.dry_run)
    return {.text = fmt::format("would take {} steps of {} tokens\n", config.repeats + 1,
                                recipe.tokens_per_step())};
  for (const std::string& file : {config.write_start, config.updated})
    if (!file.empty()) make_output_file(file, context.options.overwrite);
  if (!config.write_start.empty()) return write_start(config.write_start, recipe);

  const at::Tensor ids_NT = random_ids(recipe).to(device);
  const auto initial = initial_weights(recipe);
  optim::check_rules(recipe.optimizer, initial);
  const auto weights = pretrain::trainable(initial, recipe.optimizer, device);
  const auto model = pretrain::make_model(recipe.model, weights, recipe.activation_checkpointing);
  dist::GradientBuckets gradients(pretrain::without_frozen(weights), dist::one_rank());
  optim::Optimizer optimizer(recipe.optimizer_of_model(), weights, dist::one_rank());
  pretrain::GradientStep step(*model, tensor::scalar_type_named(recipe.precision));
  pretrain::StepTimes times;
  step.time_into(times);

  const auto tokens = static_cast<double>(recipe.tokens_per_step());
  const auto targets = static_cast<double>(ids_NT.size(0) * (ids_NT.size(1) - 1));
  std::vector<double> wall, processor, optimizing;
  double loss = 0;
  context.progress.begin("bench pretrain", config.repeats + 1, "step");
  for (std::int64_t i = 0; i <= config.repeats; ++i) {
    if (i == 1) times = {};  // the first step makes what the others find
    const double started = now_seconds(), processor_started = processor_seconds();
    gradients.zero();
    const double sum = step.add(ids_NT, 1 / targets);
    const double update_started = now_seconds();
    optimizer.step(1);
    tensor::wait_for(device);
    const double ended = now_seconds();
    if (i == 0) {
      loss = sum / targets;
      if (!config.updated.empty()) tensor::write_tensors(config.updated, weights);
    } else {
      wall.push_back((ended - started) * 1e3);
      processor.push_back((processor_seconds() - processor_started) * 1e3);
      optimizing.push_back((ended - update_started) * 1e3);
    }
    context.progress.update(i + 1, fmt::format("{:.1f} ms", (ended - started) * 1e3));
  }
  context.progress.end();

  const double ms = median(wall), repeats = static_cast<double>(config.repeats);
  const double gflops = pretrain::flops_per_step(recipe) / ms / 1e6;
  const Json phases{{"forward", times.forward / repeats * 1e3},
                    {"readout", times.readout / repeats * 1e3},
                    {"backward", times.backward / repeats * 1e3},
                    {"optimizer", median(optimizing)}};
  const std::string kernels = kernels_used(device.is_cuda(), recipe.precision == "bf16");
  Outcome outcome;
  outcome.summary = {{"ms_per_step", ms},
                     {"processor_ms_per_step", median(processor)},
                     {"tokens_per_second", tokens / ms * 1e3},
                     {"effective_gflops", gflops},
                     {"peak_bytes", peak_bytes()},
                     {"loss", loss},
                     {"phases", phases},
                     {"tokens", recipe.tokens_per_step()},
                     {"kernels", kernels},
                     {"device", device.str()}};
  outcome.text = fmt::format(
      "{} tokens ({}, {}): {:.1f} ms a step, {:.0f} tokens/s, {:.0f} effective GFLOP/s, {}\n",
      recipe.tokens_per_step(), recipe.precision, kernels, ms, tokens / ms * 1e3, gflops,
      human_bytes(static_cast<double>(peak_bytes())));
  for (const auto& [name, part] : phases.items())
    outcome.text += fmt::format("{:>10} {:8.2f} ms\n", name, part.get<double>());
  return outcome;
}

}  // namespace cresco::verbs
