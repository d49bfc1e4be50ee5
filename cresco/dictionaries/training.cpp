#include "cresco/dictionaries/training.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/l0_controller.h"
#include "cresco/dictionaries/matrix_sae.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/random_source.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/rows.h"
#include "cresco/dictionaries/schedules.h"
#include "cresco/dictionaries/stacked_step.h"
#include "cresco/dictionaries/training_folder.h"
#include "cresco/dictionaries/whole_step.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cresco::dictionaries {
namespace {

constexpr std::pair<const char*, ActivationKind> kKinds[] = {
    {"crosscoder", ActivationKind::JumpRelu}, {"sae", ActivationKind::JumpRelu},
    {"topk", ActivationKind::TopK},           {"batchtopk", ActivationKind::BatchTopK},
    {"gated", ActivationKind::Gated},         {"jumprelu", ActivationKind::SharedJumpRelu}};

// What has to be the same for a run to go on. Where and how often it writes may change.
Json settings_of(const TrainingRun& run, const TrainingData& data) {
  CrosscoderConfig training = run.training;
  Json settings{{"training", fields_to_json([&](FieldVisitor& v) { training.fields(v); })},
                {"name", run.name},
                {"kind", run.kind},
                {"random", run.random},
                {"seed", run.seed},
                {"model", data.model},
                {"matrix", data.matrix},
                {"steps", data.steps},
                {"stack_sha256", data.stack_sha256}};
  if (run.stack_dtype != "fp32") settings["stack_dtype"] = run.stack_dtype;
  // A rank's states are those of its heads.
  if (data.share.ranks->size() > 1) settings["ranks"] = data.share.ranks->size();
  return settings;
}

Json released_quality(const Quality& quality, const CrosscoderParameters& parameters) {
  return {{"explained_variance", quality.explained_variance_pooled},
          {"reconstruction_mse", quality.reconstruction_mse},
          {"mean_l0", quality.l0},
          {"dead_rate", quality.dead_rate},
          {"d_sae", parameters.num_features()},
          {"n_snapshots", parameters.num_heads()},
          {"n_rows", quality.num_rows}};
}

// Steps of less than this many FLOPs run on one thread.
constexpr double kSmallStepFlops = 2e8;

double flops_of_rows(double rows, std::int64_t heads, std::int64_t width, std::int64_t features) {
  return 10 * rows * static_cast<double>(heads) * static_cast<double>(width) *
         static_cast<double>(features);
}

// The production crosscoder starts with heads that are all alike, the others with each drawn by
// itself.
CrosscoderParameters draw_parameters(const TrainingRun& run, const Activation& activation,
                                     std::int64_t heads, std::int64_t width, HeadShare share) {
  const RandomKind kind = random_kind(run.random);
  if (activation.kind != ActivationKind::JumpRelu)
    return stacked_initial_parameters(activation, kind, run.seed, heads, width, run.training.d_sae,
                                      run.training.init_threshold)
        .heads(share.first(heads), share.count(heads));
  const auto drawn = draw_initial_matrices(kind, run.seed, width, run.training.d_sae);
  return initial_parameters(run.training, share.count(heads), drawn.encoder_DF, drawn.decoder_FD);
}

// The heads of all ranks: on the first.
CrosscoderParameters gathered(const CrosscoderParameters& own, dist::Ranks& ranks) {
  CrosscoderParameters p = own;
  for (at::Tensor* t : {&p.encoder_KDF, &p.encoder_bias_KF, &p.decoder_KFD, &p.decoder_bias_KD})
    *t = ranks.gather(*t);
  return p;
}

// What the measurement at the end may take for a block of rows: 256 of them, within bounds.
// LibTorch's own arrays on the way made it one to three times that where it was measured (K = 2 and
// 8, D = 256 to 8192).
std::int64_t quality_block_bytes(std::int64_t row_bytes) {
  return std::clamp(256 * row_bytes, std::int64_t{16} << 20, std::int64_t{64} << 20);
}
constexpr double kQualityTakes = 3;

// What reading and measuring the rows leaves in the heap beside all that is named here. Ten small
// trainings (K = 2 and 20, D = 256 to 4096) took 0.82 to 1.15 times what the plan then says.
double left_in_heap(double resident_bytes) {
  return std::min(4 * resident_bytes, 64.0 * (1 << 20));
}

// Of the rows in memory, or read again where this rank has only some heads' or they are rounded.
Quality quality_of(const Crosscoder& crosscoder, const TrainingData& data,
                   const std::string& mode) {
  const std::int64_t block_bytes = quality_block_bytes(quality_row_bytes(crosscoder, false));
  if (data.share.ranks->size() == 1 && data.x_VKD.scalar_type() == at::kFloat)
    return measure_quality(crosscoder, data.x_VKD.cpu(), block_bytes);
  const trajectories::Stack stack(data.stack);
  return measure_quality(crosscoder,
                         StackRows(stack, stack.indices(data.steps), mode, block_bytes).rows(),
                         {.block_bytes = block_bytes});
}

at::ScalarType dtype_of_rows(const TrainingRun& run) {
  require_usage(run.stack_dtype == "fp32" || run.stack_dtype == "bf16",
                "stack_dtype '{}' is not one of fp32, bf16", run.stack_dtype);
  return run.stack_dtype == "bf16" ? at::kBFloat16 : at::kFloat;
}

// Kinds that take their steps by products of their own; the others go through autograd.
bool has_own_products(const std::string& kind) { return kind != "gated" && kind != "jumprelu"; }

void check_run(const TrainingRun& run, std::int64_t num_rows) {
  dtype_of_rows(run);
  activation_of_kind(run.kind, run.training);
  random_kind(run.random);
  check_resume(run.resume, run.overwrite);
  require_usage(run.max_steps >= 0, "max_steps is {}, expected 0 (all) or more", run.max_steps);
  require_usage(run.log_every >= 1, "log_every is {}, expected 1 or more", run.log_every);
  require_usage(run.state_every >= 0, "state_every is {}, expected 0 (none) or more",
                run.state_every);
  require_usage(!run.name.empty() && run.name.find('/') == std::string::npos && run.name[0] != '.',
                "name '{}' cannot be a file's name", run.name);
  const bool has_gates = run.kind == "crosscoder" || run.kind == "sae";
  require_usage(
      has_gates || run.training.auxk_coefficient == 0,
      "auxk_coefficient is {}: dead features are revived in kinds crosscoder and sae, not "
      "in {}",
      run.training.auxk_coefficient, run.kind);
  require_usage(run.training.amp_dtype == "fp32" || has_own_products(run.kind),
                "amp_dtype is {}: kind {} is trained in fp32", run.training.amp_dtype, run.kind);
  require(num_rows < std::int64_t{1} << 32,
          "the stack has {} rows, more than an order of rows can number", num_rows);
}

// Steps of the whole schedule, and those that the run takes of them.
struct StepCount {
  std::int64_t all, taken;
};
StepCount steps_of(const TrainingRun& run, std::int64_t num_rows) {
  const std::int64_t all =
      run.training.n_epochs * steps_per_epoch(num_rows, run.training.batch_size);
  return {all, run.max_steps > 0 ? std::min(run.max_steps, all) : all};
}

// What steers lambda to target_l0 has to have something to steer, and time for it.
void check_target_l0(const TrainingRun& run, std::int64_t num_steps) {
  const CrosscoderConfig& c = run.training;
  if (c.target_l0 == 0) return;
  require_usage(run.kind == "crosscoder" || run.kind == "sae" || run.kind == "jumprelu",
                "target_l0 is {}: the l0 of kind {} is not steered by l1_coefficient", c.target_l0,
                run.kind);
  require_usage(c.l1_coefficient > 0,
                "target_l0 is {} and l1_coefficient 0: say where to begin (--l1-coefficient 0.3)",
                c.target_l0);
  require_usage(c.target_l0 < static_cast<double>(c.d_sae),
                "target_l0 is {}, d_sae {}: no more than all features can be active", c.target_l0,
                c.d_sae);
  require_usage(sparsity_factor(num_steps - 1, num_steps, c.l1_warmup_fraction) == 1,
                "target_l0 is {}: steering begins after the sparsity warm-up, but "
                "l1_warmup_fraction {} of {} steps leaves none",
                c.target_l0, c.l1_warmup_fraction, num_steps);
}

double count_parameters(double F, double K, double D) { return 2 * K * D * F + 2 * F + K * D; }

// Of a training's step on the CPU.
StepBytes step_bytes(const TrainingRun& run, double B, double K, double D) {
  const CrosscoderConfig& c = run.training;
  const double F = static_cast<double>(c.d_sae);
  const double parameters = count_parameters(F, K, D);
  // 18 to 20 B F numbers were measured of what autograd keeps of a batch (D = 8192, B = 2048).
  if (!has_own_products(run.kind))
    return {4 * 3 * parameters, 4 * (2 * parameters + 20 * B * F + 6 * B * K * D)};
  const double copies = 3 + (c.optimizer == "sparse_adam" ? 1 : 0);
  const double codes = 3 * B * F + B * K * D;
  const bool selects = run.kind == "topk" || run.kind == "batchtopk";
  return {
      4 * (copies * parameters + codes * (c.auxk_coefficient > 0 ? 2 : 1) + 2 * B * K * D + F * D +
           std::min(F, 512.0) * K * D + K * D / 64 * F + (selects ? 0 : K * B / 32 * F)) +
          (c.amp_dtype == "bf16" ? 2 * (K * D * F + B * K * D) : 0),
      // A batch's deviation is summed in double.
      std::max(selects ? 4 * 4 * B * F : 0, 16 * B * K * D)};
}

// What measuring a dictionary of these rows takes. BatchTopK is measured by whole batches.
double quality_bytes(const TrainingRun& run, double V, double B, double K, double D) {
  const double row = 4 * (5 * static_cast<double>(run.training.d_sae) + K * D + 16 * D);
  const auto block_bytes = static_cast<double>(quality_block_bytes(static_cast<std::int64_t>(row)));
  const double block = kQualityTakes * std::min(block_bytes, V * row);
  return run.kind == "batchtopk" ? std::max(block, 2 * B * row) : block;
}

}  // namespace

const std::vector<std::string>& training_kinds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, activation] : kKinds) all.emplace_back(name);
    return all;
  }();
  return names;
}

Activation activation_of_kind(const std::string& kind, const CrosscoderConfig& config) {
  for (const auto& [name, activation] : kKinds) {
    if (kind == name) {
      Activation found{.kind = activation};
      if (activation == ActivationKind::TopK || activation == ActivationKind::BatchTopK) {
        found.k = config.k;
        found.slice_rows = config.batch_size;
        require_usage(config.d_sae == 0 || config.k <= config.d_sae,
                      "k is {}: more codes a row than there are features, d_sae is {}", config.k,
                      config.d_sae);
      }
      return found;
    }
  }
  std::vector<std::string> names = training_kinds();
  const std::string own = join(names, ", ");
  for (const MatrixSaeClass& known : matrix_sae_classes()) names.emplace_back(known.name);
  fail_usage(
      "kind '{}' is not one of {}{}; `train` alone has, by its option --kind, the classes of "
      "`train-sae` and linear accounts (pca, concatenated_pca, endpoint_line, mean)",
      kind, own, did_you_mean(kind, names));
}

bool trains_single_snapshots(const std::string& kind) { return kind == "sae"; }

double sparsity_coefficient(const std::string& kind, const CrosscoderConfig& config) {
  if (kind == "gated") return config.gated_l1_coefficient;
  return kind == "topk" || kind == "batchtopk" ? 0 : config.l1_coefficient;
}

TrainingData load_training_data(const trajectories::Stack& stack,
                                const std::vector<std::int64_t>& indices, const TrainingRun& run,
                                std::string stack_sha256, HeadShare share, at::Device device) {
  TrainingData data{.model = stack.info().model,
                    .matrix = stack.info().matrix,
                    .stack = stack.path(),
                    .stack_sha256 = std::move(stack_sha256),
                    .share = share};
  for (const std::int64_t i : indices)
    data.steps.push_back(stack.steps()[static_cast<std::size_t>(i)]);
  if (data.stack_sha256.empty()) data.stack_sha256 = sha256_of_file(stack.path());
  const auto first = indices.begin() + share.first(data.num_heads());
  data.x_VKD = preprocess_stack(stack, {first, first + share.count(data.num_heads())},
                                run.training.input_preprocess, at::kCPU, dtype_of_rows(run))
                   .x_VKD.to(device);
  return data;
}

TrainingPlan plan_training(const TrainingRun& given, const TrainingShape& shape,
                           at::DeviceType device) {
  TrainingRun run = given;
  run.training = resolved(given.training, shape.width);
  const CrosscoderConfig& c = run.training;
  check_run(run, shape.rows);
  const std::int64_t V = shape.rows, per_epoch = steps_per_epoch(V, c.batch_size);
  require_usage(c.n_epochs <= (std::int64_t{1} << 40) / per_epoch, "n_epochs is {}: too many steps",
                c.n_epochs);
  const auto steps = steps_of(run, V);
  check_target_l0(run, steps.all);
  TrainingPlan plan{.num_steps = steps.all, .last_step = steps.taken};
  const double rows = static_cast<double>(plan.last_step / per_epoch * V +
                                          std::min(plan.last_step % per_epoch * c.batch_size, V));
  plan.flops = flops_of_rows(rows, shape.heads, shape.width, c.d_sae);
  const double K = static_cast<double>(shape.heads), D = static_cast<double>(shape.width),
               F = static_cast<double>(c.d_sae);
  plan.resident_bytes =
      static_cast<double>(elementSize(dtype_of_rows(run))) * static_cast<double>(V) * K * D;
  plan.parameter_bytes = 3 * 4 * count_parameters(F, K, D);
  plan.state_bytes = plan.parameter_bytes;
  // A training that is cut short writes one more where it stops.
  const std::int64_t written = run.state_every > 0 ? plan.last_step / run.state_every : 0;
  plan.num_states = std::clamp<std::int64_t>(written, plan.last_step < plan.num_steps ? 1 : 0, 3);
  const auto bytes_of_heads = [&](double heads) {
    return 4 * (count_parameters(F, heads, D) + (heads - 1) * F);
  };
  plan.dictionary_bytes = bytes_of_heads(K * static_cast<double>(shape.ranks));
  plan.gathered_bytes = shape.ranks > 1 ? plan.dictionary_bytes : 0;
  const std::int64_t batch = std::min(c.batch_size, V);
  const auto rows_of_batch = static_cast<double>(batch);
  StepBytes step;
  if (device == at::kCPU) {
    step = step_bytes(run, rows_of_batch, K, D);
  } else {
    const StepBytes there =
        whole_step_bytes(c, activation_of_kind(run.kind, c), batch, shape.heads, shape.width);
    plan.gpu_bytes = plan.resident_bytes + kGpuProgramBytes + there.kept + there.passing;
    // A state is copied here to be written; in the end the dictionary has that room.
    step.kept = plan.state_bytes - bytes_of_heads(K);
  }
  // The first rank measures the heads of all.
  const double quality = quality_bytes(run, static_cast<double>(V), rows_of_batch,
                                       K * static_cast<double>(shape.ranks), D);
  // The dictionary that is written is a copy, and is measured while the step is still there.
  plan.shared_bytes = plan.resident_bytes + kProgramBytes + left_in_heap(plan.resident_bytes) +
                      std::max(step.passing, quality);
  plan.memory_bytes = plan.shared_bytes + bytes_of_heads(K) + plan.gathered_bytes + step.kept;
  return plan;
}

std::unique_ptr<CrosscoderStep> initial_step(const TrainingRun& run, const TrainingShape& shape,
                                             HeadShare share, at::Device device) {
  const Activation activation = activation_of_kind(run.kind, run.training);
  return make_step(run.training, activation,
                   draw_parameters(run, activation, shape.heads, shape.width, share),
                   std::min(run.training.batch_size, shape.rows), share, device);
}

StepRates rates_at(const CrosscoderConfig& c, double coefficient, std::int64_t step,
                   std::int64_t num_steps) {
  const double lr =
      c.lr * learning_rate_factor(step, num_steps, c.lr_warmup_fraction, c.lr_decay_fraction);
  return {.step = step,
          .l1_coefficient = coefficient * sparsity_factor(step, num_steps, c.l1_warmup_fraction),
          .lr = lr,
          .threshold_lr = lr * c.jumprelu_lr_factor};
}

double flops_of_step(const TrainingRun& run, const TrainingShape& shape) {
  const double rows = static_cast<double>(std::min(run.training.batch_size, shape.rows));
  return flops_of_rows(rows, shape.heads, shape.width, run.training.d_sae);
}

ThreadsForSteps::ThreadsForSteps(double flops) : before_(at::get_num_threads()) {
  if (flops < kSmallStepFlops) at::set_num_threads(1);
}
ThreadsForSteps::~ThreadsForSteps() { at::set_num_threads(before_); }

bool is_complete(const TrainingRun& run, const TrainingData& data, const Path& folder) {
  return completed_steps(folder, settings_of(run, data)) == steps_to_take(run, data);
}

std::int64_t steps_to_take(const TrainingRun& run, const TrainingData& data) {
  return steps_of(run, data.x_VKD.size(0)).taken;
}

struct CrosscoderTraining::Parts {
  TrainingRun run;
  const TrainingData& data;
  Path folder;
  Progress& progress;
  dist::Ranks& ranks;
  std::unique_ptr<FolderLock> lock;  // the first rank's, which writes all but the others' states
  StateFolders states;
  Activation activation;
  std::int64_t num_steps = 0, last_step = 0, next = 0;
  std::unique_ptr<CrosscoderStep> step;
  std::unique_ptr<artifacts::MetricsLog> log;
  RowOrder order;
  at::Tensor order_V;
  std::int64_t epoch = -1;
  L0Controller controller;

  Parts(const TrainingRun& given, const TrainingData& with, const Path& in, Progress& shown)
      : run(given),
        data(with),
        folder(in),
        progress(shown),
        ranks(*with.share.ranks),
        states(in, ranks.rank()),
        order(random_kind(given.random), given.seed, with.x_VKD.size(0)) {
    const auto steps = steps_of(run, data.x_VKD.size(0));
    num_steps = steps.all;
    last_step = steps.taken;
    activation = activation_of_kind(run.kind, run.training);
    if (ranks.first()) {
      lock = std::make_unique<FolderLock>(folder);
      open_training_folder(folder, settings_of(run, data),
                           {.resume = run.resume,
                            .overwrite = run.overwrite,
                            .last_step = last_step,
                            .inputs = {data.stack}});
    }
    ranks.wait_for_all();
    controller = L0Controller(run.training.target_l0, sparsity_coefficient(run.kind, run.training),
                              num_steps);
    step = initial_step(run, data.shape(), data.share, data.x_VKD.device());
    next = states.read_newest(
        [&](const formats::SafetensorsFile& file, const Json& numbers) {
          step->load_state(file);
          controller.load(numbers.value("l0_controller", Json::object()));
        },
        progress, ranks);
    require(next <= last_step, "{}: its state is at step {}, past the {} asked for",
            folder.string(), next, last_step);
    if (ranks.first())
      log = std::make_unique<artifacts::MetricsLog>(folder / "metrics.jsonl", next - 1);
  }

  // The rows of a step's batch: a slice of its epoch's order.
  std::span<const std::int64_t> rows_of(std::int64_t at) {
    const std::int64_t V = data.x_VKD.size(0), B = run.training.batch_size;
    const std::int64_t per_epoch = steps_per_epoch(V, B);
    if (const std::int64_t its = at / per_epoch; its != epoch) {
      order_V = order.of_epoch(its);
      epoch = its;
    }
    const std::int64_t begin = at % per_epoch * B;
    return {order_V.const_data_ptr<std::int64_t>() + begin,
            static_cast<std::size_t>(std::min(B, V - begin))};
  }

  void write_state(std::int64_t at) {
    if (log) log->flush_to_disk();
    const std::string bad = step->first_not_finite();
    require(
        bad.empty(),
        "after {} steps {} holds numbers that are not finite: is lr too high? Last good state: {}",
        at, bad, states.newest_name());
    states.write(at, step->state(), {{"l0_controller", controller.state()}});
  }

  BatchNoise noise() const { return {run.training.noise_std, run.seed, next}; }

  // One step from the batch loaded: the loss and its line are those before the update.
  LossTerms take() {
    const CrosscoderConfig& c = run.training;
    const std::int64_t at = next;
    const StepRates rates = rates_at(c, controller.coefficient(), at, num_steps);
    const bool logged = at % run.log_every == 0;
    const double deviation = logged ? step->batch_deviation() : 0;
    const LossTerms terms = step->update(rates);
    if (!std::isfinite(terms.loss)) fail_not_finite(at, terms);
    if (sparsity_factor(at, num_steps, c.l1_warmup_fraction) >= 1) controller.observe(terms.l0);
    if (logged && log) {
      Json line{
          {"step", at},
          {"loss", terms.loss},
          {"l_rec", terms.l_rec},
          {"l_s", terms.l_s},
          {"l0", terms.l0},
          {"explained_variance", deviation > 0 ? 1 - terms.sum_squared_error / deviation : 0.0},
          {"dead", terms.num_silent},
          {"lr", rates.lr},
          {"l1_coefficient", rates.l1_coefficient}};
      if (c.auxk_coefficient > 0 || run.kind == "gated") line["l_aux"] = terms.l_aux;
      log->write(line);
    }
    ++next;
    if (run.state_every > 0 && next % run.state_every == 0) write_state(next);
    return terms;
  }

  [[noreturn]] void fail_not_finite(std::int64_t at, const LossTerms& terms) {
    const std::string bad = step->first_not_finite();
    fail("step {}: the loss is {} ({}): is lr too high? Last good state: {}", at, terms.loss,
         bad.empty() ? "every parameter is finite, a product of them is not"
                     : bad + " holds numbers that are not finite",
         states.newest_name());
  }
};

CrosscoderTraining::CrosscoderTraining(const TrainingRun& run, const TrainingData& data,
                                       const Path& folder, Progress& progress) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  parts_ = std::make_unique<Parts>(run, data, folder, progress);
}
CrosscoderTraining::~CrosscoderTraining() = default;
CrosscoderTraining::CrosscoderTraining(CrosscoderTraining&&) noexcept = default;
CrosscoderTraining& CrosscoderTraining::operator=(CrosscoderTraining&&) noexcept = default;

std::int64_t CrosscoderTraining::next_step() const { return parts_->next; }
std::int64_t CrosscoderTraining::last_step() const { return parts_->last_step; }

LossTerms CrosscoderTraining::advance() {
  const ThreadsForSteps threads(flops_of_step(parts_->run, parts_->data.shape()));
  parts_->step->load(parts_->data.x_VKD, parts_->rows_of(next_step()), parts_->noise());
  return parts_->take();
}

std::vector<LossTerms> CrosscoderTraining::advance_together(
    const std::vector<CrosscoderTraining*>& trainings, JointSteps& joint) {
  double flops = 0;
  for (const CrosscoderTraining* training : trainings)
    flops += flops_of_step(training->parts_->run, training->parts_->data.shape());
  const ThreadsForSteps threads(flops);
  Parts& first = *trainings[0]->parts_;
  joint.load(first.data.x_VKD, first.rows_of(first.next), first.noise());
  std::vector<LossTerms> terms;
  for (CrosscoderTraining* training : trainings) terms.push_back(training->parts_->take());
  return terms;
}

bool can_fuse(const TrainingRun& a, const TrainingRun& b) {
  const auto by_one_product = [](const TrainingRun& run) {
    return has_own_products(run.kind) && run.training.amp_dtype == "fp32";
  };
  return by_one_product(a) && by_one_product(b) && a.seed == b.seed && a.random == b.random &&
         a.training.batch_size == b.training.batch_size &&
         a.training.noise_std == b.training.noise_std;
}

bool CrosscoderTraining::reads_with(const CrosscoderTraining& other) const {
  const Parts &a = *parts_, &b = *other.parts_;
  return &a.data == &b.data && a.next == b.next && can_fuse(a.run, b.run);
}

CrosscoderStep& CrosscoderTraining::step() { return *parts_->step; }

void CrosscoderTraining::save() {
  const auto steps = parts_->states.steps();
  if (parts_->next > 0 && (steps.empty() || steps.back() != parts_->next))
    parts_->write_state(parts_->next);
}

TrainingOutcome CrosscoderTraining::finish() {
  Parts& p = *parts_;
  const bool cut_short = p.last_step < p.num_steps;
  if (cut_short) save();
  if (p.log) p.log->flush_to_disk();
  const std::string bad = p.step->first_not_finite();
  require(bad.empty(), "after step {}: {} holds numbers that are not finite", p.last_step, bad);
  const CrosscoderParameters parameters = gathered(p.step->parameters(), p.ranks);
  if (!p.ranks.first()) {
    if (cut_short) p.states.keep_last(1);
    return {};
  }
  TrainingOutcome outcome{
      quality_of(Crosscoder(parameters, p.activation), p.data, p.run.training.input_preprocess),
      {}};
  if (p.controller.at_bound())
    p.progress.note(fmt::format(
        "{}: l1_coefficient ended at its bound, {:.4g}, with an l0 of {:.4g}: target_l0 is {}",
        p.run.name, p.controller.coefficient(), outcome.quality.l0, p.run.training.target_l0));
  Dictionary dictionary{.name = p.run.name,
                        .model_name = p.data.model,
                        .matrix = p.data.matrix,
                        .steps = p.data.steps,
                        .seed = static_cast<std::int64_t>(p.run.seed),
                        .training = p.run.training,
                        .activation = p.activation,
                        .parameters = parameters,
                        .quality = released_quality(outcome.quality, parameters),
                        .provenance = {{"program", "cresco " + artifacts::version()},
                                       {"random", p.run.random},
                                       {"training_steps", p.last_step},
                                       {"final_l1_coefficient", p.controller.coefficient()},
                                       {"stack", p.data.stack.filename().string()},
                                       {"stack_sha256", p.data.stack_sha256}}};
  if (p.run.stack_dtype != "fp32") dictionary.provenance["stack_dtype"] = p.run.stack_dtype;
  write_dictionary(p.folder, dictionary);
  outcome.files = dictionary.files(p.folder);
  // A training that max_steps cut short can still be gone on with.
  p.states.keep_last(cut_short ? 1 : 0);
  artifacts::write_manifest(p.folder, p.run.manifest);
  mark_complete(p.folder, p.last_step);
  return outcome;
}

TrainingOutcome outcome_of(const TrainingRun& run, const TrainingData& data, const Path& folder) {
  const Dictionary dictionary = read_dictionary(folder / (run.name + ".safetensors"));
  return {quality_of(dictionary.crosscoder(), data, run.training.input_preprocess),
          dictionary.files(folder)};
}

TrainingOutcome train_crosscoder(const TrainingRun& run, const TrainingData& data,
                                 const Path& folder, Progress& progress) {
  CrosscoderTraining training(run, data, folder, progress);
  const std::int64_t first = training.next_step();
  progress.begin("train", training.last_step(), "step");
  const double started = now_seconds();
  const auto batch_size =
      static_cast<double>(std::min(run.training.batch_size, data.x_VKD.size(0)));
  while (!training.finished()) {
    if (data.share.ranks->largest_of(run.stop_requested() ? 1 : 0) > 0) {
      progress.end();
      training.save();
      data.share.ranks->wait_for_all();
      throw Interrupted(fmt::format("stopped before step {}; this goes on: {}",
                                    training.next_step(), run.resume_command));
    }
    const LossTerms terms = training.advance();
    const double rows = static_cast<double>(training.next_step() - first) * batch_size;
    progress.update(training.next_step(),
                    fmt::format("loss {:.4g} | l0 {:.1f} | {} rows/s", terms.loss, terms.l0,
                                human_count(rows / (now_seconds() - started))));
  }
  progress.end();
  return training.finish();
}

TrainingOutcome train_crosscoder(const TrainingRun& given, const trajectories::Stack& stack,
                                 const Path& folder, at::Device device, Progress& progress) {
  TrainingRun run = given;
  run.training = resolved(given.training, stack.width());
  // Refuses bad settings before anything is read.
  plan_training(run, {stack.num_rows(), stack.width(), stack.num_snapshots()});
  std::vector<std::int64_t> all(stack.steps().size());
  std::iota(all.begin(), all.end(), 0);
  check_device(device, run.training, activation_of_kind(run.kind, run.training));
  return train_crosscoder(run, load_training_data(stack, all, run, "", {}, device), folder,
                          progress);
}

}  // namespace cresco::dictionaries
