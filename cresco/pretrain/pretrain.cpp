#include "cresco/pretrain/pretrain.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/interrupt.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/optim/optimizer.h"
#include "cresco/optim/schedule.h"
#include "cresco/trajectories/snapshot.h"
#include "cresco/trajectories/steps.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace cresco::pretrain {

std::int64_t num_validation_windows(const RunData& data, const Recipe& recipe) {
  return std::clamp<std::int64_t>(recipe.eval.tokens / recipe.data.sequence_length, 1,
                                  data.validation.size());
}

double validation_loss(const models::Neox& model, const RunData& data, const Recipe& recipe) {
  const torch::autograd::AutoGradMode no_grad(false);
  const std::int64_t windows = num_validation_windows(data, recipe);
  double sum = 0;
  const at::Device device = model.weights().front().second.device();
  for (std::int64_t first = 0; first < windows; first += recipe.micro_sequences()) {
    const std::int64_t count = std::min(recipe.micro_sequences(), windows - first);
    const at::Tensor ids =
        read_validation(data, first, count, model.config().vocab_size).to(device);
    const at::Tensor loss =
        models::cross_entropy(model.logits(ids.slice(1, 0, -1)), ids.slice(1, 1));
    sum += loss.item<double>() * static_cast<double>(count);
  }
  return sum / static_cast<double>(windows);
}

namespace {

class Pretrainer {
 public:
  Pretrainer(const PretrainJob& job, const RunData& data, Progress& progress)
      : job_(job),
        recipe_(job.recipe),
        data_(data),
        progress_(progress),
        weights_(trainable(job.initial, job.device)),
        model_(recipe_.model.neox, weights_),
        optimizer_(optim::make_optimizer(recipe_.optimizer, weights_)),
        total_steps_(recipe_.total_steps()),
        schedule_(trajectories::snapshot_schedule(recipe_.snapshots.at, total_steps_,
                                                  recipe_.tokens_per_step())) {
    job_.run.clean(recipe_);
    if (const auto states = job_.run.states(); !states.empty()) load_state(states.back());
    log_.emplace(job_.run.metrics(), resumed_ ? step_ : -1);
  }

  PretrainResult run() {
    started_ = now_seconds();
    progress_.begin("pretrain", total_steps_, "step");
    if (!resumed_) {
      evaluate();
      write_metrics(/*has_training=*/false);
      write_due_files();
    }
    const std::int64_t stop = job_.stop_after >= 0 ? job_.stop_after : total_steps_;
    while (step_ < std::min(stop, total_steps_)) {
      train_step();
      after_step();
      if (interrupted() && step_ < total_steps_) {
        if (const auto states = job_.run.states(); states.empty() || states.back() != step_)
          save_state();
        throw Interrupted(
            fmt::format("interrupted after step {}; go on with: {}", step_, job_.resume_command));
      }
    }
    progress_.end();
    if (step_ == total_steps_) {
      log_->flush_to_disk();
      write_file(job_.run.complete(), fmt::format("{}\n", step_ * recipe_.tokens_per_step()));
    }
    return {.step = step_,
            .tokens = step_ * recipe_.tokens_per_step(),
            .train_loss = train_loss_,
            .val_loss = val_loss_,
            .tokens_per_second = tokens_per_second(),
            .snapshots = schedule_};
  }

 private:
  static std::vector<tensor::NamedTensor> trainable(const std::vector<tensor::NamedTensor>& initial,
                                                    at::Device device) {
    std::vector<tensor::NamedTensor> weights;
    for (const auto& [name, tensor] : initial) {
      const at::Tensor own = tensor.to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
      weights.emplace_back(name, own.set_requires_grad(true));
      weights.back().second.mutable_grad() = at::zeros_like(own);
    }
    return weights;
  }

  void train_step() {
    for (auto& [name, weight] : weights_) weight.mutable_grad().zero_();
    const std::int64_t micro = recipe_.micro_sequences(), first = step_ * recipe_.batch.sequences;
    double loss = 0;
    for (std::int64_t at = 0; at < recipe_.batch.sequences; at += micro) {
      const at::Tensor ids =
          read_batch(data_, first + at, micro, recipe_.model.neox.vocab_size).to(job_.device);
      const at::Tensor logits = model_.logits(ids.slice(1, 0, -1));
      // The mean over the batch is the mean of the micro-batches' means: they are of one size.
      const at::Tensor share =
          models::cross_entropy(logits, ids.slice(1, 1)) *
          (static_cast<double>(micro) / static_cast<double>(recipe_.batch.sequences));
      torch::autograd::backward({share}, {});
      loss += share.item<double>();
    }
    const double factor = optim::lr_factor(recipe_.schedule, step_, total_steps_);
    const optim::StepResult result = optimizer_->step(factor);
    grad_norm_ = result.grad_norm;
    group_norms_ = result.group_norms;
    lr_ = recipe_.optimizer.lr * factor;
    require_finite(loss);
    ++step_;
    loss_sum_ += loss;
    ++loss_count_;
  }

  void evaluate() {
    val_loss_ = validation_loss(model_, data_, recipe_);
    require(std::isfinite(val_loss_),
            "step {}: the validation loss is not finite; the last good state is {}", step_,
            last_good_state());
  }

  std::string last_good_state() const {
    const auto states = job_.run.states();
    return states.empty() ? "the initial weights" : job_.run.state(states.back()).string();
  }

  void require_finite(double loss) const {
    if (std::isfinite(loss) && std::isfinite(grad_norm_)) return;
    std::string culprit = "the loss";
    for (const auto& [name, weight] : weights_)
      if (!weight.grad().isfinite().all().item<bool>()) {
        culprit = "the gradient of '" + name + "'";
        break;
      }
    fail(
        "step {}: {} is not finite (loss {}, gradient norm {}); the last good state is {}; a "
        "smaller learning rate?",
        step_, culprit, loss, grad_norm_, last_good_state());
  }

  void after_step() {
    const bool last = step_ == total_steps_;
    const bool is_due = last || (recipe_.eval.every > 0 && step_ % recipe_.eval.every == 0);
    if (is_due) evaluate();
    if (is_due || step_ % recipe_.log.every == 0) {
      write_metrics(/*has_training=*/true, is_due);
      progress_.update(step_, fmt::format("loss {:.3f} | val {:.3f} | {} tok/s", train_loss_,
                                          val_loss_, human_count(tokens_per_second())));
    }
    write_due_files();
  }

  double tokens_per_second() const {
    return static_cast<double>((step_ - first_step_) * recipe_.tokens_per_step()) /
           (now_seconds() - started_ + 1e-9);
  }

  void write_metrics(bool has_training, bool has_validation = true) {
    Json line{{"step", step_}, {"tokens", step_ * recipe_.tokens_per_step()}};
    line["wall_time"] = wall_before_ + now_seconds() - started_;
    if (has_training) {
      train_loss_ = loss_sum_ / static_cast<double>(loss_count_);
      line["train/loss"] = train_loss_;
      line["optim/lr"] = lr_;
      line["optim/grad_norm"] = grad_norm_;
      for (const auto& [group, norm] : group_norms_) line["optim/grad_norm/" + group] = norm;
      line["tokens_per_second"] = tokens_per_second();
      loss_sum_ = 0;
      loss_count_ = 0;
    }
    if (has_validation) line["val/loss"] = val_loss_;
    log_->write(line);
  }

  void write_due_files() {
    if (std::binary_search(schedule_.begin(), schedule_.end(), step_)) {
      const std::string dtype = recipe_.snapshots.dtype;
      const Json config = families::neox_to_json(recipe_.model.neox,
                                                 dtype == "fp32"   ? "float32"
                                                 : dtype == "bf16" ? "bfloat16"
                                                                   : "float16",
                                                 job_.end_of_text);
      trajectories::write_snapshot(job_.run.snapshot(step_), config, weights_,
                                   tensor::scalar_type_named(dtype),
                                   /*replace=*/true);
    }
    if (recipe_.state.every > 0 && (step_ % recipe_.state.every == 0 || step_ == total_steps_))
      save_state();
  }

  void save_state() {
    log_->flush_to_disk();
    AtomicFolder folder(job_.run.state(step_));
    std::vector<tensor::NamedTensor> tensors = weights_;
    for (const auto& moment : optimizer_->state()) tensors.push_back(moment);
    tensor::write_tensors(folder.folder() / "state.safetensors", tensors);
    write_json_file(folder.folder() / "state.json",
                    {{"step", step_},
                     {"optimizer", optimizer_->numbers()},
                     {"loss_sum", loss_sum_},
                     {"loss_count", loss_count_},
                     {"train_loss", train_loss_},
                     {"val_loss", val_loss_},
                     {"wall_time", wall_before_ + now_seconds() - started_}});
    folder.commit(/*replace=*/true);
    job_.run.clean(recipe_);
  }

  void load_state(std::int64_t step) {
    const torch::autograd::AutoGradMode no_grad(false);
    const Path folder = job_.run.state(step);
    const formats::SafetensorsFile file(folder / "state.safetensors");
    for (auto& [name, weight] : weights_) {
      const at::Tensor stored = tensor::to_tensor(file.tensor(name));
      require(stored.sizes() == weight.sizes(), "{}: '{}' has shape {}, the model's is {}",
              file.path().string(), name, formats::shape_text(stored.sizes().vec()),
              formats::shape_text(weight.sizes().vec()));
      weight.copy_(stored);
    }
    const Json state = read_json_file(folder / "state.json");
    const std::string where = (folder / "state.json").string();
    require(state.contains("optimizer"), "{}: 'optimizer' is missing", where);
    optimizer_->load(file, state["optimizer"], where);
    step_ = first_step_ = get_int(state, "step", where);
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
  std::vector<tensor::NamedTensor> weights_;
  models::Neox model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::int64_t total_steps_;
  std::vector<std::int64_t> schedule_;
  std::optional<artifacts::MetricsLog> log_;

  bool resumed_ = false;
  std::int64_t step_ = 0, first_step_ = 0;
  double train_loss_ = 0, val_loss_ = 0, grad_norm_ = 0, lr_ = 0;
  std::vector<std::pair<std::string, double>> group_norms_;
  double loss_sum_ = 0;  // of the steps since the last line of metrics
  std::int64_t loss_count_ = 0;
  double started_ = 0, wall_before_ = 0;
};

}  // namespace

PretrainResult finished_result(const Recipe& recipe, const RunFolder& run) {
  PretrainResult result{.step = recipe.total_steps(),
                        .tokens = recipe.total_steps() * recipe.tokens_per_step()};
  result.snapshots =
      trajectories::snapshot_schedule(recipe.snapshots.at, result.step, recipe.tokens_per_step());
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
