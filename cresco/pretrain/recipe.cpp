#include "cresco/pretrain/recipe.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/shares.h"
#include "cresco/corpora/windows.h"
#include "cresco/models/initialise.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/steps.h"

#include <algorithm>

namespace cresco::pretrain {

namespace {

// The first step at which that many tokens have been seen, the recipe's beginning or later.
std::int64_t step_at(const Recipe& recipe, std::int64_t tokens) {
  const std::int64_t left = std::max<std::int64_t>(0, tokens - recipe.begins.tokens);
  return recipe.begins.step + (left + recipe.tokens_per_step() - 1) / recipe.tokens_per_step();
}

}  // namespace

std::int64_t Recipe::total_steps() const {
  return budget.steps > 0 ? budget.steps : step_at(*this, budget.tokens);
}

optim::OptimizerConfig Recipe::optimizer_of_model() const {
  optim::OptimizerConfig config = optimizer;
  config.inputs_first = model.is_gpt2() && model.gpt2.conv1d;
  return config;
}

std::vector<std::int64_t> Recipe::snapshot_steps() const {
  auto steps = trajectories::snapshot_schedule(
      snapshots.at, total_steps(), [this](std::int64_t tokens) { return step_at(*this, tokens); });
  if (begins.step > 0) std::erase_if(steps, [this](auto step) { return step <= begins.step; });
  return steps;
}

namespace {

void check_data(const DataConfig& data) {
  corpora::window_kind_named(data.window);
  const auto& orders = corpora::WindowOrder::names();
  require_usage(std::find(orders.begin(), orders.end(), data.order) != orders.end(),
                "data.order '{}' is not one of {}{}", data.order, join(orders, ", "),
                did_you_mean(data.order, orders));
  require_usage(data.order != "pythia" || data.window == "row2049",
                "data.order pythia reads rows: data.window is '{}', expected row2049 (order "
                "sequential reads the same file in windows of another kind)",
                data.window);
  require_usage(data.window != "block" || data.sequence_length > 1,
                "data.window block has sequence_length - 1 targets: data.sequence_length is {}",
                data.sequence_length);
  require_usage(data.order != "numpy" || data.seed >= 0,
                "data.seed is {}, numpy's generator takes 0 and more", data.seed);
  parse_validation(data.validation);
  if (!data.tokens.empty() || data.mixture.empty()) return;
  std::vector<double> weights;
  for (const MixturePart& part : data.mixture) {
    require_usage(!part.prefix.empty(), "data.tokens[{}].prefix is empty", weights.size());
    weights.push_back(part.weight);
  }
  require_usage(data.mixture.size() <= 1000, "data.tokens mixes {} corpora, at most 1000",
                data.mixture.size());
  try {
    corpora::Shares{weights};
  } catch (const UsageError& e) {
    fail_usage("data.tokens: {}", e.what());
  }
}

}  // namespace

Validation parse_validation(const std::string& text) {
  constexpr std::string_view kBlocks = "blocks:";
  if (text.starts_with(kBlocks)) {
    const auto blocks =
        as_usage([&] { return parse_int(text.substr(kBlocks.size()), "data.validation blocks"); });
    require_usage(blocks > 0, "data.validation is {}, expected at least one block", text);
    return {.kind = Validation::Blocks, .blocks = blocks};
  }
  require_usage(!text.empty(),
                "data.validation is empty, expected a corpus, a share of documents or blocks:N");
  if (text.find_first_not_of("0123456789.eE-+") != std::string::npos)
    return {.kind = Validation::Corpus};
  const double share = as_usage([&] { return parse_double(text, "data.validation"); });
  require_usage(share > 0 && share < 1, "data.validation is {}, expected a share between 0 and 1",
                share);
  return {.kind = Validation::Share, .share = share};
}

void check(const Recipe& r) {
  check(r.model);
  const auto positive = [](const char* name, std::int64_t value) {
    require_usage(value > 0, "{} is {}, expected at least 1", name, value);
  };
  positive("data.sequence_length", r.data.sequence_length);
  positive("batch.sequences", r.batch.sequences);
  const auto bounded = [](const char* name, std::int64_t value, double limit) {
    require_usage(static_cast<double>(value) <= limit, "{} is {}, expected at most {:g}", name,
                  value, limit);
  };
  bounded("data.sequence_length", r.data.sequence_length, 1 << 24);
  bounded("batch.sequences", r.batch.sequences, 1 << 24);
  bounded("budget.steps", r.budget.steps, 1e9);
  bounded("budget.tokens", r.budget.tokens, 1e15);
  positive("state.keep", r.state.keep);
  positive("log.every", r.log.every);
  positive("eval.tokens", r.eval.tokens);
  require_usage(r.data.sequence_length <= r.model.max_context(),
                "data.sequence_length {} is more than the model's longest context, {}",
                r.data.sequence_length, r.model.max_context());
  require_usage(r.batch.micro_sequences >= 0 && r.batch.sequences % r.micro_sequences() == 0,
                "batch.micro_sequences {} does not divide batch.sequences {}",
                r.batch.micro_sequences, r.batch.sequences);
  require_usage((r.budget.tokens > 0) != (r.budget.steps > 0),
                "budget: exactly one of tokens ({}) and steps ({}) is needed", r.budget.tokens,
                r.budget.steps);
  bounded("budget: steps", r.total_steps(), 1e9);
  require_usage(r.state.every >= 0 && r.eval.every >= 0,
                "state.every and eval.every cannot be negative");
  check_data(r.data);
  if (r.init.from.empty()) models::check_initialisation(r.init.name);
  tensor::scalar_type_named(r.precision, "precision");
  tensor::scalar_type_named(r.snapshots.dtype);
  r.snapshot_steps();
  optim::check(r.optimizer);
  optim::check(r.loss_scale);
  optim::check(r.schedule);
}

double flops_per_step(const Recipe& r) {
  const ModelConfig& m = r.model;
  const auto weights = static_cast<double>(families::num_parameters(m.tensors()) -
                                           (m.is_tied() ? 0 : m.vocab_size() * m.width()) -
                                           (m.is_gpt2() ? m.max_context() * m.width() : 0));
  const double attention = 12.0 * static_cast<double>(m.num_layers() * m.width()) *
                           static_cast<double>(r.data.sequence_length) / 2;  // half: causal
  return (6 * weights + attention) * static_cast<double>(r.tokens_per_step());
}

}  // namespace cresco::pretrain
