#include "cresco/dictionaries/training.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/crosscoder_step.h"
#include "cresco/dictionaries/preprocess.h"
#include "cresco/dictionaries/random_source.h"
#include "cresco/dictionaries/released.h"
#include "cresco/dictionaries/schedules.h"
#include "cresco/dictionaries/training_state.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <numeric>

namespace cresco::dictionaries {
namespace {

// What has to be the same for a run to go on. Where and how often it writes may change.
Json settings_of(const TrainingRun& run, const trajectories::Stack& stack) {
  CrosscoderConfig training = run.training;
  return {{"training", fields_to_json([&](FieldVisitor& v) { training.fields(v); })},
          {"name", run.name},
          {"random", run.random},
          {"seed", run.seed},
          {"model", stack.info().model},
          {"matrix", stack.info().matrix},
          {"steps", stack.steps()},
          {"stack_sha256", sha256_of_file(stack.path())}};
}

bool holds_anything(const Path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename() != ".lock") return true;
  return false;
}

// Decides whether what stands in the folder can be gone on with, and leaves it ready for that.
void open_folder(const TrainingRun& run, const Path& folder, const Json& settings,
                 std::int64_t last_step, const Path& stack) {
  const TrainingStates states(folder);
  remove_temporaries(folder);
  require(run.resume != "must" || !states.steps().empty(), "{}: has no state to resume from",
          folder.string());
  if (run.overwrite) make_output_folder(folder, /*overwrite=*/true, {stack});
  if (!holds_anything(folder)) {
    write_json_file(folder / "settings.json", settings);
    return;
  }
  const Path settings_path = folder / "settings.json", complete = folder / "COMPLETE";
  require(run.resume != "never" && std::filesystem::exists(settings_path),
          "{}: exists already; --overwrite replaces it", folder.string());
  const std::string differs = first_difference(read_json_file(settings_path), settings);
  require(differs.empty(), "{}: holds a training with other settings: {}; --overwrite replaces it",
          folder.string(), differs);
  if (std::filesystem::exists(complete)) {
    const auto steps = states.steps();
    require(!steps.empty() && steps.back() < last_step,
            "{}: is complete already; --overwrite makes it anew", folder.string());
    std::filesystem::remove(complete);
  }
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

// Steps of less than this many FLOPs run on one thread: they gain little from more, and on a busy
// machine threads that wait for each other at every operation cost far more than they bring.
constexpr double kSmallStepFlops = 2e8;

class ThreadsForSteps {
 public:
  explicit ThreadsForSteps(double flops) : before_(at::get_num_threads()) {
    if (flops < kSmallStepFlops) at::set_num_threads(1);
  }
  ~ThreadsForSteps() { at::set_num_threads(before_); }
  ThreadsForSteps(const ThreadsForSteps&) = delete;
  ThreadsForSteps& operator=(const ThreadsForSteps&) = delete;

 private:
  int before_;
};

// One training in memory: everything that a step needs.
class Trainer {
 public:
  Trainer(const TrainingRun& run, const TrainingPlan& plan, const trajectories::Stack& stack,
          const Path& folder, at::Device device, Progress& progress)
      : run_(run), plan_(plan), folder_(folder), states_(folder), progress_(progress) {
    std::vector<std::int64_t> all(stack.steps().size());
    std::iota(all.begin(), all.end(), 0);
    x_VKD_ = preprocess_stack(stack, all, run.training.input_preprocess, device).x_VKD;
    const RandomKind kind = random_kind(run.random);
    const auto drawn = draw_initial_matrices(kind, run.seed, stack.width(), run.training.d_sae);
    const std::int64_t rows = std::min(run.training.batch_size, x_VKD_.size(0));
    step_ = make_sparse_step(
        run.training, {},
        initial_parameters(run.training, stack.num_snapshots(), drawn.encoder_DF.to(device),
                           drawn.decoder_FD.to(device)),
        rows);
    order_ = std::make_unique<RowOrder>(kind, run.seed, x_VKD_.size(0));
  }

  void run() {
    const ThreadsForSteps threads(
        10.0 * static_cast<double>(std::min(run_.training.batch_size, x_VKD_.size(0)) *
                                   x_VKD_.size(1) * x_VKD_.size(2) * run_.training.d_sae));
    const std::int64_t first = states_.read_newest(*step_, progress_);
    require(first <= plan_.last_step, "{}: its state is at step {}, past the {} asked for",
            folder_.string(), first, plan_.last_step);
    artifacts::MetricsLog log(folder_ / "metrics.jsonl", first - 1);
    progress_.begin("train", plan_.last_step, "step");
    const double started = now_seconds();
    std::int64_t rows = 0;
    for (std::int64_t step = first; step < plan_.last_step; ++step) {
      if (run_.stop_requested()) stop(step, log);
      const auto batch = rows_of(step);
      const LossTerms terms = take(step, batch, log);
      rows += static_cast<std::int64_t>(batch.size());
      progress_.update(
          step + 1,
          fmt::format("loss {:.4g} | l0 {:.1f} | {} rows/s", terms.loss, terms.l0,
                      human_count(static_cast<double>(rows) / (now_seconds() - started))));
      if (run_.state_every > 0 && (step + 1) % run_.state_every == 0) write_state(step + 1, log);
    }
    progress_.end();
    if (plan_.last_step < plan_.num_steps && states_.steps() != std::vector{plan_.last_step})
      write_state(plan_.last_step, log);
    log.flush_to_disk();
  }

  const CrosscoderStep& step() const { return *step_; }
  const at::Tensor& x_VKD() const { return x_VKD_; }

 private:
  // The rows of a step's batch: a slice of its epoch's order.
  std::span<const std::int64_t> rows_of(std::int64_t step) {
    const std::int64_t V = x_VKD_.size(0), B = run_.training.batch_size;
    const std::int64_t per_epoch = steps_per_epoch(V, B);
    if (const std::int64_t epoch = step / per_epoch; epoch != epoch_) {
      order_V_ = order_->of_epoch(epoch);
      epoch_ = epoch;
    }
    const std::int64_t begin = step % per_epoch * B;
    return {order_V_.const_data_ptr<std::int64_t>() + begin,
            static_cast<std::size_t>(std::min(B, V - begin))};
  }

  // One step: the loss and its line are those before the update.
  LossTerms take(std::int64_t step, std::span<const std::int64_t> rows,
                 artifacts::MetricsLog& log) {
    const CrosscoderConfig& c = run_.training;
    step_->load(x_VKD_, rows);
    const double lr = c.lr * learning_rate_factor(step, plan_.num_steps, c.lr_warmup_fraction,
                                                  c.lr_decay_fraction);
    const StepRates rates{
        .step = step,
        .l1_coefficient =
            c.l1_coefficient * sparsity_factor(step, plan_.num_steps, c.l1_warmup_fraction),
        .lr = lr,
        .threshold_lr = lr * c.jumprelu_lr_factor};
    const bool logged = step % run_.log_every == 0;
    const double deviation = logged ? step_->batch_deviation() : 0;
    const LossTerms terms = step_->update(rates);
    if (!std::isfinite(terms.loss)) fail_not_finite(step, terms);
    if (logged)
      log.write(
          {{"step", step},
           {"loss", terms.loss},
           {"l_rec", terms.l_rec},
           {"l_s", terms.l_s},
           {"l0", terms.l0},
           {"explained_variance", deviation > 0 ? 1 - terms.sum_squared_error / deviation : 0.0},
           {"lr", lr},
           {"l1_coefficient", rates.l1_coefficient}});
    return terms;
  }

  void write_state(std::int64_t step, artifacts::MetricsLog& log) {
    log.flush_to_disk();
    states_.write(step, *step_);
  }

  [[noreturn]] void stop(std::int64_t step, artifacts::MetricsLog& log) {
    progress_.end();
    if (step > 0) write_state(step, log);
    throw Interrupted(
        fmt::format("stopped before step {}; this goes on: {}", step, run_.resume_command));
  }

  [[noreturn]] void fail_not_finite(std::int64_t step, const LossTerms& terms) {
    const std::string bad = step_->first_not_finite();
    fail("step {}: the loss is {} ({}): is lr too high? Last good state: {}", step, terms.loss,
         bad.empty() ? "every parameter is finite, a product of them is not"
                     : bad + " holds numbers that are not finite",
         states_.newest_name());
  }

  const TrainingRun& run_;
  const TrainingPlan& plan_;
  Path folder_;
  TrainingStates states_;
  Progress& progress_;
  at::Tensor x_VKD_, order_V_;
  std::int64_t epoch_ = -1;
  std::unique_ptr<CrosscoderStep> step_;
  std::unique_ptr<RowOrder> order_;
};

void check_run(const TrainingRun& run, const trajectories::Stack& stack) {
  check(run.training);
  random_kind(run.random);
  require_usage(run.resume == "auto" || run.resume == "never" || run.resume == "must",
                "resume '{}' is not one of auto, never, must", run.resume);
  require_usage(run.max_steps >= 0, "max_steps is {}, expected 0 (all) or more", run.max_steps);
  require_usage(run.log_every >= 1, "log_every is {}, expected 1 or more", run.log_every);
  require_usage(run.state_every >= 0, "state_every is {}, expected 0 (none) or more",
                run.state_every);
  require_usage(!run.name.empty() && run.name.find('/') == std::string::npos && run.name[0] != '.',
                "name '{}' cannot be a file's name", run.name);
  require(stack.num_rows() < std::int64_t{1} << 32,
          "{}: has {} rows, more than an order of rows can number", stack.path().string(),
          stack.num_rows());
}

}  // namespace

TrainingPlan plan_training(const TrainingRun& run, const trajectories::Stack& stack) {
  check_run(run, stack);
  const CrosscoderConfig c = resolved(run.training, stack.width());
  const std::int64_t V = stack.num_rows(), per_epoch = steps_per_epoch(V, c.batch_size);
  require_usage(c.n_epochs <= (std::int64_t{1} << 40) / per_epoch, "n_epochs is {}: too many steps",
                c.n_epochs);
  TrainingPlan plan{.num_steps = c.n_epochs * per_epoch};
  plan.last_step = run.max_steps > 0 ? std::min(run.max_steps, plan.num_steps) : plan.num_steps;
  const double K = static_cast<double>(stack.num_snapshots()),
               D = static_cast<double>(stack.width());
  const double F = static_cast<double>(c.d_sae), B = static_cast<double>(std::min(c.batch_size, V));
  const double rows = static_cast<double>(plan.last_step / per_epoch * V +
                                          std::min(plan.last_step % per_epoch * c.batch_size, V));
  plan.flops = 10 * rows * K * D * F;
  plan.memory_bytes =
      4 * (static_cast<double>(V) * K * D + 4 * (2 * K * D * F + K * F + K * D + F) +
           2 * B * K * F + 5 * B * F + 2 * B * K * D);
  return plan;
}

TrainingOutcome train_crosscoder(const TrainingRun& given, const trajectories::Stack& stack,
                                 const Path& folder, at::Device device, Progress& progress) {
  const TrainingPlan plan = plan_training(given, stack);
  TrainingRun run = given;
  run.training = resolved(given.training, stack.width());

  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const FolderLock lock(folder);
  const Json settings = settings_of(run, stack);
  open_folder(run, folder, settings, plan.last_step, stack.path());

  Trainer trainer(run, plan, stack, folder, device, progress);
  trainer.run();

  const CrosscoderParameters parameters = trainer.step().parameters();
  const std::string bad = trainer.step().first_not_finite();
  require(bad.empty(), "after step {}: {} holds numbers that are not finite", plan.last_step, bad);
  TrainingOutcome outcome{measure_quality(Crosscoder(parameters), trainer.x_VKD()), {}};
  const Dictionary dictionary{.name = run.name,
                              .model_name = stack.info().model,
                              .matrix = stack.info().matrix,
                              .steps = stack.steps(),
                              .seed = static_cast<std::int64_t>(run.seed),
                              .training = run.training,
                              .parameters = parameters,
                              .quality = released_quality(outcome.quality, parameters),
                              .provenance = {{"program", "cresco " + artifacts::version()},
                                             {"random", run.random},
                                             {"training_steps", plan.last_step},
                                             {"stack", stack.path().filename().string()},
                                             {"stack_sha256", settings["stack_sha256"]}}};
  write_dictionary(folder, dictionary);
  outcome.files = dictionary.files(folder);
  // A training that max_steps cut short can still be gone on with.
  TrainingStates(folder).keep_last(plan.last_step < plan.num_steps ? 1 : 0);
  artifacts::write_manifest(folder, run.manifest);
  write_file(folder / "COMPLETE", fmt::format("{}\n", plan.last_step));
  return outcome;
}

}  // namespace cresco::dictionaries
