#include "cresco/pretrain/pretrain.h"

#include "cresco/artifacts/event_file.h"
#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/base/worker.h"
#include "cresco/dist/gradient_buckets.h"
#include "cresco/optim/optimizer.h"
#include "cresco/optim/schedule.h"
#include "cresco/pretrain/batch_reader.h"
#include "cresco/pretrain/train_step.h"
#include "cresco/trajectories/snapshot.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace cresco::pretrain {

std::int64_t num_validation_windows(const RunData& data, const Recipe& recipe) {
  return std::clamp<std::int64_t>(recipe.eval.tokens / recipe.data.sequence_length, 1,
                                  data.num_validation_windows);
}

double validation_loss(GradientStep& step, const RunData& data, const Recipe& recipe,
                       at::Device device, dist::Ranks& ranks) {
  const std::int64_t windows = num_validation_windows(data, recipe),
                     at_once = recipe.micro_sequences();
  double sum = 0;
  for (std::int64_t first = ranks.rank() * at_once; first < windows;
       first += ranks.size() * at_once) {
    const std::int64_t count = std::min(at_once, windows - first);
    sum += step.loss(read_validation(data, first, count, recipe.model.vocab_size()).to(device));
  }
  return ranks.sum_of(sum) / static_cast<double>(windows * data.targets_per_window());
}

namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string dtype_of_config(const std::string& dtype) {
  return dtype == "fp32" ? "float32" : dtype == "bf16" ? "bfloat16" : "float16";
}

// Copies that a thread may write while training goes on.
std::vector<tensor::NamedTensor> copied(const std::vector<tensor::NamedTensor>& tensors,
                                        at::ScalarType dtype) {
  std::vector<tensor::NamedTensor> copies;
  for (const auto& [name, t] : tensors)
    copies.emplace_back(name, t.detach().to(at::kCPU, dtype, /*non_blocking=*/false,
                                            /*copy=*/true));
  return copies;
}

class Pretrainer {
 public:
  Pretrainer(const PretrainJob& job, const RunData& data, Progress& progress)
      : job_(job),
        recipe_(job.recipe),
        data_(data),
        progress_(progress),
        ranks_(*job.ranks),
        cut_(micro_batches(recipe_, ranks_.size())),
        weights_(trainable(job.initial, recipe_.optimizer, job.device)),
        model_(make_model(recipe_.model, weights_, recipe_.activation_checkpointing)),
        step_of_(*model_, tensor::scalar_type_named(recipe_.precision)),
        readout_(readout_among(without_frozen(weights_))),
        buckets_(without_frozen(weights_), ranks_),
        optimizer_(recipe_.optimizer_of_model(), weights_, ranks_),
        loss_scale_(recipe_.loss_scale),
        total_steps_(recipe_.total_steps()),
        schedule_(recipe_.snapshot_steps()) {
    load_newest_state();
    require(step_ >= recipe_.begins.step,
            "{}: goes on from step {}, before step {} where its recipe was changed: the states "
            "from there on are gone",
            job_.run.path.string(), step_, recipe_.begins.step);
    ranks_.wait_for_all();
    if (!ranks_.first()) return;
    if (job_.record_changes) {
      // What could still fail: the log, and of other data their first batch.
      if (resumed_) artifacts::read_metrics(job_.run.metrics());
      read_batch(data_, recipe_.place_at(step_), recipe_.batch.sequences,
                 recipe_.model.vocab_size());
      job_.record_changes();
    }
    job_.run.clean(recipe_);
    log_.emplace(job_.run.metrics(), resumed_ ? step_ : -1);
    events_.emplace(job_.run.events(), artifacts::read_metrics(job_.run.metrics()),
                    seconds_since_1970() - wall_before_);
  }

  PretrainResult run() {
    started_ = interval_started_ = now_seconds();
    first_step_ = interval_step_ = step_;
    progress_.begin("pretrain", total_steps_, "step");
    if (!resumed_) {
      evaluate();
      write_metrics(/*has_training=*/false, /*has_validation=*/true);
      write_due_files();
    }
    const std::int64_t stop =
        job_.stop_after >= 0 ? std::min(job_.stop_after, total_steps_) : total_steps_;
    BatchReader batches(data_, cut_, recipe_.model.vocab_size(), ranks_.rank(),
                        recipe_.place_at(step_), stop - step_);
    while (step_ < stop) {
      const bool stops = train_step(batches);
      after_step();
      if (stops && step_ < total_steps_) interrupt();
    }
    progress_.end();
    wait_for_snapshots();
    if (step_ == total_steps_ && log_) {
      log_->flush_to_disk();
      write_file(job_.run.complete(), fmt::format("{}\n", recipe_.tokens_at(step_)));
    }
    return {.step = step_,
            .tokens = recipe_.tokens_at(step_),
            .train_loss = train_loss_,
            .val_loss = val_loss_,
            .tokens_per_second = tokens_per_second(first_step_, started_),
            .seconds = now_seconds() - started_,
            .snapshot_seconds = snapshot_seconds_,
            .snapshots = ranks_.first() ? job_.run.snapshots() : std::vector<std::int64_t>{}};
  }

 private:
  // Which of these is the readout, where it is a matrix of its own: its gradient is complete before
  // autograd's.
  std::optional<std::size_t> readout_among(const std::vector<at::Tensor>& trained) const {
    for (std::size_t i = 0; i < trained.size(); ++i)
      if (!recipe_.model.is_tied() && trained[i].is_same(model_->readout_weight())) return i;
    return std::nullopt;
  }

  // Whether somebody asked for a stop meanwhile.
  bool train_step(BatchReader& batches) {
    buckets_.zero();
    const std::int64_t count = cut_.count();
    const double targets = static_cast<double>(cut_.sequences * data_.targets_per_window());
    const bool scales = recipe_.precision == "fp16";
    const double scale = scales ? loss_scale_.scale() : 1;
    at::Tensor sums = at::zeros({2}, at::kDouble);  // loss, stops
    double* const own = sums.mutable_data_ptr<double>();
    for (std::int64_t i = 0; i < count; ++i) {
      if (i + 1 == count) buckets_.expect();
      own[0] += step_of_.add(batches.next().to(job_.device), scale / targets, [&] {
        if (readout_ && i + 1 == count) buckets_.ready(*readout_);
      });
    }
    buckets_.wait();
    own[1] = interrupted() ? 1 : 0;
    ranks_.sum(sums);
    const double loss = own[0] / targets;
    const double factor =
        optim::lr_factor(recipe_.schedule, loss_scale_.schedule_step(step_), total_steps_);
    const optim::StepResult result = optimizer_.step(factor, scale);
    require_finite(loss, result);
    if (scales) loss_scale_.update(!result.is_finite());
    require(!loss_scale_.has_collapsed(), "{}; the last good state is {}",
            loss_scale_.collapse_text(step_), last_good_state());
    grad_norm_ = result.grad_norm;
    group_norms_ = result.group_norms;
    lr_ = recipe_.optimizer.lr * factor;
    ++step_;
    loss_sum_ += loss;
    ++loss_count_;
    return own[1] > 0;
  }

  void evaluate() {
    val_loss_ = validation_loss(step_of_, data_, recipe_, job_.device, ranks_);
    require(std::isfinite(val_loss_),
            "step {}: the validation loss is not finite; the last good state is {}", step_,
            last_good_state());
  }

  std::string last_good_state() const {
    const auto states = job_.run.states();
    return states.empty() ? "the initial weights" : job_.run.state(states.back()).string();
  }

  // Gradients that overflow are the loss scale's business.
  void require_finite(double loss, const optim::StepResult& result) const {
    if (std::isfinite(loss) && (result.is_finite() || recipe_.precision == "fp16")) return;
    fail(
        "step {}: {} is not finite (loss {}, gradient norm {}); the last good state is {}; a "
        "smaller learning rate?",
        step_,
        result.is_finite() || !std::isfinite(loss) ? "the loss"
                                                   : "the gradient of '" + result.not_finite + "'",
        loss, result.grad_norm, last_good_state());
  }

  void after_step() {
    const bool last = step_ == total_steps_;
    const bool is_due = last || (recipe_.eval.every > 0 && step_ % recipe_.eval.every == 0);
    if (is_due) evaluate();
    if (is_due || step_ % recipe_.log.every == 0) write_metrics(/*has_training=*/true, is_due);
    write_due_files();
  }

  double tokens_per_second(std::int64_t since, double started) const {
    return static_cast<double>((step_ - since) * recipe_.tokens_per_step()) /
           (now_seconds() - started + 1e-9);
  }

  double wall_time() const { return wall_before_ + now_seconds() - started_; }

  void write_metrics(bool has_training, bool has_validation) {
    Json line{{"step", step_}, {"tokens", recipe_.tokens_at(step_)}};
    line["wall_time"] = wall_time();
    double rate = 0;
    if (has_training) {
      train_loss_ = loss_sum_ / static_cast<double>(loss_count_);
      loss_sum_ = 0;
      loss_count_ = 0;
      rate = tokens_per_second(interval_step_, interval_started_);
      line["train/loss"] = train_loss_;
      line["optim/lr"] = lr_;
      line["optim/grad_norm"] = shown(grad_norm_);
      for (const auto& [group, norm] : group_norms_) line["optim/grad_norm/" + group] = shown(norm);
      if (recipe_.precision == "fp16") {
        line["optim/loss_scale"] = loss_scale_.scale();
        line["optim/skipped_steps"] = loss_scale_.num_overflows();
      }
      line["tokens_per_second"] = rate;
      if (job_.peak_gflops > 0)
        line["mfu"] = rate / static_cast<double>(recipe_.tokens_per_step()) *
                      flops_per_step(recipe_) / (job_.peak_gflops * 1e9);
      interval_step_ = step_;
      interval_started_ = now_seconds();
    }
    if (has_validation) line["val/loss"] = val_loss_;
    if (log_) log_->write(line);
    if (events_) events_->write(line);
    if (has_training)
      progress_.update(step_, fmt::format("loss {:.3f} | val {:.3f} | {} tok/s", train_loss_,
                                          val_loss_, human_count(rate)));
  }

  // JSON has no infinity: a gradient that overflowed has no norm.
  static Json shown(double number) { return std::isfinite(number) ? Json(number) : Json(); }

  void write_due_files() {
    if (std::binary_search(schedule_.begin(), schedule_.end(), step_)) take_snapshot();
    if (recipe_.state.every > 0 && (step_ % recipe_.state.every == 0 || step_ == total_steps_))
      save_state();
  }

  // The weights are copied here and written by a thread.
  void take_snapshot() {
    const double started = now_seconds();
    const bool with_optimizer = recipe_.snapshots.optimizer_state;
    const auto state =
        with_optimizer ? optimizer_.state() : std::vector<tensor::NamedTensor>{};  // of all ranks
    if (!ranks_.first()) return;
    const at::ScalarType dtype = tensor::scalar_type_named(recipe_.snapshots.dtype);
    writer_.submit(
        [folder = job_.run.snapshot(step_), dtype,
         config = recipe_.model.to_json(dtype_of_config(recipe_.snapshots.dtype), job_.end_of_text),
         weights = copied(weights_, dtype), optimizer = copied(state, at::kFloat)] {
          trajectories::write_snapshot(folder, config, weights, dtype, /*replace=*/true, optimizer);
        });
    snapshot_seconds_ += now_seconds() - started;
  }

  void wait_for_snapshots() {
    const double started = now_seconds();
    writer_.wait();
    snapshot_seconds_ += now_seconds() - started;
  }

  // A state stands for all that was written before it.
  void save_state() {
    std::vector<tensor::NamedTensor> tensors = weights_;
    for (const auto& moment : optimizer_.state()) tensors.push_back(moment);
    if (ranks_.first()) {
      wait_for_snapshots();
      log_->flush_to_disk();
      AtomicFolder folder(job_.run.state(step_));
      tensor::write_tensors(folder.folder() / "state.safetensors", tensors);
      write_json_file(folder.folder() / "state.json", {{"step", step_},
                                                       {"optimizer", optimizer_.numbers()},
                                                       {"loss_scale", loss_scale_.state()},
                                                       {"loss_sum", loss_sum_},
                                                       {"loss_count", loss_count_},
                                                       {"train_loss", train_loss_},
                                                       {"val_loss", val_loss_},
                                                       {"wall_time", wall_time()}});
      folder.commit(/*replace=*/true);
      job_.run.clean(recipe_);
    }
    ranks_.wait_for_all();
  }

  [[noreturn]] void interrupt() {
    const auto states = job_.run.states();
    const bool is_saved = !states.empty() && states.back() == step_;
    if (ranks_.largest_of(is_saved ? 0 : 1) > 0) save_state();
    progress_.end();
    throw Interrupted(
        fmt::format("interrupted after step {}; go on with: {}", step_, job_.resume_command));
  }

  void load_newest_state() {
    const auto states = job_.run.states();
    if (states.empty()) return;
    const Path folder = job_.run.state(states.back());
    std::optional<formats::SafetensorsFile> file;
    Json state;
    try {
      file.emplace(folder / "state.safetensors");
      state = read_json_file(folder / "state.json");
    } catch (const Error& e) {
      const std::int64_t before = states.size() < 2 ? -1 : states[states.size() - 2];
      if (before < recipe_.begins.step) throw;
      fail("{} (without {} the run goes on from step {})", e.what(), folder.string(), before);
    }
    load_state(*file, state, (folder / "state.json").string());
  }

  void load_state(const formats::SafetensorsFile& file, const Json& state,
                  const std::string& where) {
    const torch::autograd::AutoGradMode no_grad(false);
    for (auto& [name, weight] : weights_) {
      const at::Tensor stored = tensor::to_tensor(file.tensor(name));
      require(stored.sizes() == weight.sizes(), "{}: '{}' has shape {}, the model's is {}",
              file.path().string(), name, formats::shape_text(stored.sizes().vec()),
              formats::shape_text(weight.sizes().vec()));
      weight.copy_(stored);
    }
    for (const char* key : {"optimizer", "loss_scale"})
      require(state.contains(key), "{}: '{}' is missing: written by an older program?", where, key);
    step_ = get_int(state, "step", where);
    // Where a changed recipe takes over, tensors may have another optimizer, or one at all.
    optimizer_.load(file, state["optimizer"], where, step_ == recipe_.begins.step);
    loss_scale_.load(state["loss_scale"], where);
    require(step_ <= total_steps_, "{}: is at step {}, past the {} of the recipe", where, step_,
            total_steps_);
    loss_sum_ = get_double(state, "loss_sum", where);
    loss_count_ = get_int(state, "loss_count", where);
    train_loss_ = get_double(state, "train_loss", where);
    val_loss_ = get_double(state, "val_loss", where);
    wall_before_ = get_double(state, "wall_time", where);
    resumed_ = true;
  }

  const PretrainJob& job_;
  const Recipe& recipe_;
  const RunData& data_;
  Progress& progress_;
  dist::Ranks& ranks_;
  MicroBatches cut_;
  std::vector<tensor::NamedTensor> weights_;
  std::unique_ptr<models::LanguageModel> model_;
  GradientStep step_of_;
  std::optional<std::size_t> readout_;  // among the buckets' parameters
  dist::GradientBuckets buckets_;
  optim::Optimizer optimizer_;
  optim::LossScale loss_scale_;
  std::int64_t total_steps_;
  std::vector<std::int64_t> schedule_;
  // The first rank's.
  std::optional<artifacts::MetricsLog> log_;
  std::optional<artifacts::EventFile> events_;

  bool resumed_ = false;
  std::int64_t step_ = 0;
  double train_loss_ = 0, val_loss_ = 0, grad_norm_ = 0, lr_ = 0;
  std::vector<std::pair<std::string, double>> group_norms_;
  double loss_sum_ = 0;  // of the steps since the last line of metrics
  std::int64_t loss_count_ = 0;
  double started_ = 0, wall_before_ = 0, interval_started_ = 0, snapshot_seconds_ = 0;
  std::int64_t first_step_ = 0, interval_step_ = 0;
  Worker writer_;  // last: its jobs end before anything else does
};

}  // namespace

PretrainResult finished_result(const Recipe& recipe, const RunFolder& run) {
  PretrainResult result{.step = recipe.total_steps(),
                        .tokens = recipe.tokens_at(recipe.total_steps()),
                        .snapshots = run.snapshots()};
  const auto lines = artifacts::read_metrics(run.metrics());
  require(!lines.empty() && lines.back()["step"] == result.step,
          "{}: does not end at step {}, though the run is complete", run.metrics().string(),
          result.step);
  const std::string where = run.metrics().string();
  result.train_loss = get_double(lines.back(), "train/loss", where);
  result.val_loss = get_double(lines.back(), "val/loss", where);
  result.tokens_per_second = get_double(lines.back(), "tokens_per_second", where);
  return result;
}

PretrainResult pretrain(const PretrainJob& job, const RunData& data, Progress& progress) {
  return Pretrainer(job, data, progress).run();
}

}  // namespace cresco::pretrain
