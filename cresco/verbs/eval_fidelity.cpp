#include "cresco/verbs/eval_fidelity.h"

#include "cresco/corpora/open_tokens.h"
#include "cresco/dictionaries/reconstruction.h"
#include "cresco/evals/fidelity.h"
#include "cresco/models/model.h"
#include "cresco/trajectories/steps.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/interruptible.h"
#include "cresco/verbs/lint_warning.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace cresco::verbs {
namespace {

using artifacts::Table;
using dictionaries::Dictionary;
using dictionaries::StackRows;
using trajectories::Trajectory;

constexpr std::int64_t kContext = 512;
// Logits of a readout that was stored in bfloat16 differ by some 0.3 %.
constexpr double kOtherModel = 0.02;

std::vector<std::int64_t> steps_of(const FidelityConfig& config, const Dictionary& dictionary) {
  return trajectories::choose_steps(config.steps, dictionary.steps, dictionary.name);
}

std::int64_t head_of(const Dictionary& dictionary, std::int64_t step) {
  return std::find(dictionary.steps.begin(), dictionary.steps.end(), step) -
         dictionary.steps.begin();
}

// The partitions of the vocabulary; those of its texts need a tokenizer.
std::vector<evals::Partition> partitions_of(const formats::TokenSource& corpus,
                                            const std::optional<Path>& tokenizer,
                                            std::int64_t num_rows) {
  std::vector<evals::Partition> all{
      evals::frequency_deciles(evals::count_tokens(corpus, num_rows))};
  if (tokenizer) {
    const auto texts = evals::token_texts(text::read_tokenizer(*tokenizer), num_rows);
    all.push_back(evals::length_bins(texts));
    all.push_back(evals::coarse_classes(texts));
  }
  return all;
}

std::optional<Path> tokenizer_of(const FidelityInputs& inputs, const Trajectory& trajectory) {
  if (!inputs.tokenizer.empty()) return inputs.tokenizer;
  return trajectory.tokenizer();
}

std::vector<std::string> head_cells(const Dictionary& dictionary, std::int64_t step) {
  return {dictionary.model_name, Table::cell(dictionary.parameters.num_features()),
          Table::cell(dictionary.seed), Table::cell(step)};
}

// A row to the table, whose columns are those of the first row.
void add_row(Table& table, std::vector<std::string> columns, std::vector<std::string> cells,
             const std::vector<dictionaries::MetricValue>& values) {
  for (const auto& [id, value] : values) {
    columns.emplace_back(id);
    cells.push_back(Table::cell(value));
  }
  if (table.columns().empty()) table = Table(columns);
  table.add_row(std::move(cells));
}

}  // namespace

void check_fidelity(const FidelityConfig& config, const FidelityInputs& inputs,
                    const Dictionary& dictionary, const trajectories::Stack& stack) {
  require_usage(!inputs.corpus.empty() && !inputs.trajectory.empty(),
                "--corpus and --trajectory belong together: the text, and the models that read it");
  require_usage(
      config.windows > 0 && config.context >= 0 && config.context != 1 && config.batch > 0,
      "--fidelity.windows {}, --fidelity.context {}, --fidelity.batch {}: expected "
      "positive numbers",
      config.windows, config.context, config.batch);
  require(stack.info().matrix == "W_U" && (dictionary.matrix.empty() || dictionary.matrix == "W_U"),
          "{}: holds {}; only a readout, W_U, can be put to a text", stack.path().string(),
          stack.info().matrix);
  require(stack.info().note.empty(), "{}: is '{}', which is not what the model reads with",
          stack.path().string(), stack.info().note);
  const Trajectory trajectory(inputs.trajectory);
  const auto steps = steps_of(config, dictionary);
  for (const std::int64_t step : steps) trajectory.place(step);
  const std::int64_t longest = models::max_context(trajectory.open(steps[0]));
  require(config.context <= longest, "--fidelity.context {}: the model's context has {} positions",
          config.context, longest);
  corpora::open_tokens(inputs.corpus);
  if (!inputs.tokenizer.empty()) text::read_tokenizer(inputs.tokenizer);
}

Cost fidelity_cost(const FidelityConfig& config, const FidelityInputs& inputs,
                   const Dictionary& dictionary, const trajectories::Stack& stack,
                   std::int64_t block_bytes) {
  const auto& p = dictionary.parameters;
  const auto steps = steps_of(config, dictionary);
  const trajectories::Snapshot snapshot = Trajectory(inputs.trajectory).open(steps[0]);
  double model = 0;
  for (const auto& tensor : snapshot.tensors()) model += static_cast<double>(tensor.num_elements());
  const double ids =
      static_cast<double>(config.windows * (config.context > 0 ? config.context : kContext));
  const auto rows = static_cast<double>(stack.num_rows()), width = static_cast<double>(p.width());
  const auto features = static_cast<double>(p.num_features());
  // The encoder once; at each step a decode, the model without its readout, and two readouts.
  const double step =
      2 * rows * width * features + 2 * (model - rows * width) * ids + 4 * ids * rows * width;
  return {2 * rows * width * features * static_cast<double>(p.num_heads()) +
              step * static_cast<double>(steps.size()),
          4 * std::max(model + ids * width, ids * width + 2 * rows * width) +
              static_cast<double>(block_bytes)};
}

FidelityTables run_fidelity(const FidelityConfig& config, const FidelityInputs& inputs,
                            const Dictionary& dictionary, const StackRows& rows,
                            VerbContext& context) {
  const Trajectory trajectory(inputs.trajectory);
  const auto steps = steps_of(config, dictionary);
  const auto corpus = corpora::open_tokens(inputs.corpus);
  const auto tokenizer = tokenizer_of(inputs, trajectory);
  const auto partitions = partitions_of(*corpus, tokenizer, rows.num_rows());
  if (!tokenizer)
    context.progress.note(
        "strata by frequency only: the trajectory has no tokenizer.json, --tokenizer names one");
  warn_of_findings(trajectory, steps, context);

  FidelityTables out;
  out.inputs = corpus->files();
  if (tokenizer) out.inputs.push_back(*tokenizer);
  const dictionaries::Crosscoder crosscoder = dictionary.crosscoder();
  const dictionaries::Reconstruction reconstruction(crosscoder, rows);
  Json sources = Json::object();
  at::Tensor ids_NT;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::int64_t step = steps[i], k = head_of(dictionary, step);
    const trajectories::Snapshot snapshot = trajectory.open(step);
    sources[std::to_string(step)] = snapshot.identity();
    const at::Tensor native_VD = rows.raw(k, 0, rows.num_rows());
    evals::Predictions predictions;
    {
      const auto model = models::load_model(snapshot);
      require(model->vocab_size() == native_VD.size(0),
              "{}: its vocabulary has {} entries, the stack {} rows", snapshot.where(),
              model->vocab_size(), native_VD.size(0));
      if (!ids_NT.defined())
        ids_NT = evals::first_windows(
            inputs.corpus, config.windows,
            config.context > 0 ? config.context : std::min(kContext, model->max_context()));
      predictions = evals::predictions_of(*model, ids_NT, config.batch);
      require(predictions.hidden_ND.size(1) == native_VD.size(1), "{}: is {} wide, the stack {}",
              snapshot.where(), predictions.hidden_ND.size(1), native_VD.size(1));
      const double difference = evals::readout_difference(*model, predictions, native_VD);
      require(difference <= kOtherModel,
              "{}: its logits differ by {:.2g} of their size from those of the stack's W_U at step "
              "{}: is the stack of another trajectory?",
              snapshot.where(), difference, step);
      snapshot.require_unchanged();
    }
    context.progress.begin(fmt::format("fidelity step {} ({} of {})", step, i + 1, steps.size()),
                           predictions.target_N.size(0), "prediction");
    const evals::ReadoutFidelity fidelity =
        evals::measure_fidelity(predictions, native_VD, reconstruction.matrix(k),
                                rows.block_bytes(), [&](std::int64_t done) {
                                  stop_when_interrupted(context.progress);
                                  context.progress.update(done, "");
                                });
    context.progress.end();
    Json line{{"step", step}};
    for (const auto& [id, value] : fidelity.values) line[id] = value;
    out.steps.push_back(std::move(line));
    auto cells = head_cells(dictionary, step);
    cells.emplace_back();  // the reference's cache of hidden states: there is none here
    add_row(out.functional, {"model", "d_sae", "seed", "step", "hln_cache"}, std::move(cells),
            fidelity.values);
    for (const evals::Partition& partition : partitions)
      for (const evals::FidelityBin& bin :
           evals::fidelity_by_bin(fidelity, predictions.target_N, partition)) {
        auto bin_cells = head_cells(dictionary, step);
        bin_cells.insert(bin_cells.end(), {bin.partition, bin.bin});
        add_row(out.strata, {"model", "d_sae", "seed", "step", "scheme", "bin"},
                std::move(bin_cells), bin.values);
      }
  }
  out.facts = {{"windows", ids_NT.size(0)},
               {"context", ids_NT.size(1)},
               {"layout", trajectory.layout()},
               {"files", sources},
               {"codes_bytes", reconstruction.num_bytes()}};
  return out;
}

}  // namespace cresco::verbs
