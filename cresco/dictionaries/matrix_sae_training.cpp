#include "cresco/dictionaries/matrix_sae_training.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/output_folder.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/quality.h"
#include "cresco/dictionaries/training_folder.h"

#include <ATen/ATen.h>

namespace cresco::dictionaries {
namespace {

Json record_of(MatrixSaeConfig config) {
  return fields_to_json([&](FieldVisitor& v) { config.fields(v); });
}

// What has to be the same for a training to go on. Where and how often it writes may change.
Json settings_of(const MatrixSaeRun& run, const at::Tensor& x_VD) {
  const Bytes bytes(static_cast<const std::byte*>(x_VD.const_data_ptr()), x_VD.nbytes());
  return {{"training", record_of(run.training)},
          {"name", run.name},
          {"seed", run.seed},
          {"model", run.model_name},
          {"matrix", run.matrix},
          {"step", run.step},
          {"rows_sha256", sha256_hex(bytes)}};
}

class Trainer {
 public:
  Trainer(const MatrixSaeRun& run, const at::Tensor& x_VD, const Path& folder, Progress& progress)
      : run_(run), states_(folder), progress_(progress), fit_(run.training, run.seed, x_VD) {
    const std::int64_t first = states_.read_newest(
        [&](const auto& file, const Json& numbers) { fit_.load(file, numbers); }, progress);
    log_.emplace(folder / "metrics.jsonl", first - 1);
  }

  MatrixSaeFit& run() {
    progress_.begin(fmt::format("train {}", run_.name), run_.training.n_epochs, "epoch");
    while (!fit_.done()) {
      if (run_.stop_requested()) stop();
      const std::int64_t epoch = fit_.epoch();
      const auto terms = fit_.take_epoch();
      if (!terms) break;
      if (epoch % run_.log_every == 0) log_->write(line(epoch, *terms));
      progress_.update(epoch + 1, fmt::format("loss {:.4g} | l0 {:.1f}", terms->loss, terms->l0));
      if (run_.state_every > 0 && fit_.epoch() % run_.state_every == 0) write_state();
    }
    progress_.end();
    fit_.finish();
    if (fit_.stopped() == StopReason::NotFinite)
      progress_.note(fmt::format(
          "{}: epoch {} gave a number that is not finite; the parameters before it are kept",
          run_.name, fit_.epoch()));
    log_->flush_to_disk();
    return fit_;
  }

 private:
  Json line(std::int64_t epoch, const EpochTerms& terms) const {
    Json out{
        {"step", epoch},  {"loss", terms.loss}, {"recon", terms.recon},        {"aux", terms.aux},
        {"l0", terms.l0}, {"lr", terms.lr},     {"grad_norm", terms.grad_norm}};
    if (fit_.sae().kind().has_penalty()) out["lambda"] = terms.lambda;
    if (terms.val_mse) out["val_mse"] = *terms.val_mse;
    return out;
  }

  void write_state() {
    log_->flush_to_disk();
    states_.write(fit_.epoch(), fit_.state(), fit_.state_numbers());
  }

  [[noreturn]] void stop() {
    progress_.end();
    if (fit_.epoch() > 0) write_state();
    throw Interrupted(fmt::format("stopped before epoch {}; this goes on: {}", fit_.epoch(),
                                  run_.resume_command));
  }

  const MatrixSaeRun& run_;
  StateFolders states_;
  Progress& progress_;
  MatrixSaeFit fit_;
  std::optional<artifacts::MetricsLog> log_;
};

// The released numbers, and those of the family.
Json quality_of(const MatrixSaeFit& fit, const Dictionary& dictionary, const at::Tensor& x_VD) {
  const Quality released = measure_quality(dictionary.crosscoder(), x_VD.unsqueeze(1));
  const MatrixSaeQuality own = measure(fit.sae(), x_VD);
  Json out{{"explained_variance", released.explained_variance_pooled},
           {"reconstruction_mse", released.reconstruction_mse},
           {"mean_l0", released.l0},
           {"dead_rate", released.dead_rate},
           {"d_sae", dictionary.parameters.num_features()},
           {"n_snapshots", 1},
           {"n_rows", x_VD.size(0)},
           {"mse", own.mse},
           {"fve", own.fve},
           {"l0", own.l0},
           {"l0_std", own.l0_std},
           {"dead_features", own.dead_features},
           {"dead_pct", own.dead_pct}};
  if (fit.held_out_VD().defined()) {
    out["train_fve"] = measure(fit.sae(), fit.train_rows_VD()).fve;
    out["val_fve"] = measure(fit.sae(), fit.held_out_VD()).fve;
  } else {
    out["train_fve"] = own.fve;
  }
  return out;
}

Dictionary dictionary_of(const MatrixSaeRun& run, const MatrixSaeFit& fit, const at::Tensor& x_VD) {
  const MatrixSaeConfig& c = fit.sae().config();
  Dictionary out{.name = run.name,
                 .model_name = run.model_name,
                 .matrix = run.matrix,
                 .steps = {run.step},
                 .seed = static_cast<std::int64_t>(run.seed),
                 .training_record = record_of(c),
                 .activation = fit.sae().activation(x_VD.size(0)),
                 .parameters = fit.sae().folded(),
                 .provenance = run.provenance};
  for (const auto& [name, t] : out.parameters.named())
    require(t.isfinite().all().item<bool>(), "after {} epochs {} holds numbers that are not finite",
            fit.epoch(), name);
  out.training.lr = c.lr;
  out.training.n_epochs = c.n_epochs;
  out.training.batch_size = x_VD.size(0);
  out.training.d_sae = c.d_sae;
  out.training.expansion_factor = c.expansion_factor;
  out.training.input_preprocess = c.input_preprocess;
  out.training_record["batch_size"] = out.training.batch_size;  // where batchtopk's rows end
  out.quality = quality_of(fit, out, x_VD);
  out.provenance["program"] = "cresco " + artifacts::version();
  out.provenance["random"] = "philox";
  out.provenance["training_steps"] = fit.epoch();
  out.provenance["stopped"] = name_of(fit.stopped());
  if (c.patience > 0) out.provenance["best_step"] = fit.best_epoch();
  return out;
}

MatrixSaeOutcome outcome_of(const Dictionary& dictionary, const Path& folder) {
  const std::string where = dictionary.files(folder)[1].string();
  return {.files = dictionary.files(folder),
          .epochs = get_int(dictionary.provenance, "training_steps", where),
          .stopped = get_string(dictionary.provenance, "stopped", where),
          .quality = dictionary.quality};
}

}  // namespace

void check(const MatrixSaeRun& run) {
  check(run.training);
  check_resume(run.resume, run.overwrite);
  require_usage(run.log_every >= 1, "log_every is {}, expected 1 or more", run.log_every);
  require_usage(run.state_every >= 0, "state_every is {}, expected 0 (none) or more",
                run.state_every);
  require_usage(!run.name.empty() && run.name.find('/') == std::string::npos && run.name[0] != '.',
                "name '{}' cannot be a file's name", run.name);
}

MatrixSaeOutcome train_matrix_sae(const MatrixSaeRun& given, const at::Tensor& rows_VD,
                                  const Path& folder, Progress& progress) {
  check(given);
  require(rows_VD.size(0) > 0, "{}: the matrix has no rows", given.name);
  MatrixSaeRun run = given;
  run.training = resolved(given.training, rows_VD.size(1));
  const at::Tensor x_VD = rows_VD.contiguous();

  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const FolderLock lock(folder);
  const Json settings = settings_of(run, x_VD);
  if (run.skip_complete && !run.overwrite && completed_steps(folder, settings)) {
    MatrixSaeOutcome outcome =
        outcome_of(read_dictionary(folder / (run.name + ".safetensors")), folder);
    outcome.was_complete = true;
    return outcome;
  }
  open_training_folder(folder, settings,
                       {.resume = run.resume,
                        .overwrite = run.overwrite,
                        .last_step = run.training.n_epochs,
                        .inputs = run.manifest.inputs});

  Trainer trainer(run, x_VD, folder, progress);
  const Dictionary dictionary = dictionary_of(run, trainer.run(), x_VD);
  write_dictionary(folder, dictionary);
  StateFolders(folder).keep_last(0);
  artifacts::write_manifest(folder, run.manifest);
  const MatrixSaeOutcome outcome = outcome_of(dictionary, folder);
  mark_complete(folder, outcome.epochs);
  return outcome;
}

double matrix_sae_flops(const MatrixSaeConfig& c, std::int64_t num_rows, std::int64_t width) {
  std::int64_t decoded = 0;
  for (const std::int64_t size : levels(c)) decoded += size;
  return 2.0 * static_cast<double>(c.n_epochs) * static_cast<double>(num_rows) *
         static_cast<double>(width) * static_cast<double>(2 * c.d_sae + 3 * decoded);
}

double matrix_sae_bytes(const MatrixSaeConfig& c, std::int64_t num_rows, std::int64_t width) {
  const MatrixSaeClass& kind = matrix_sae_class(c.sae_class);
  const double V = static_cast<double>(num_rows), D = static_cast<double>(width),
               F = static_cast<double>(c.d_sae);
  // How many arrays of (rows, features) are there at once, as measured at 4,000 x 4,096.
  const auto arrays = [&] {
    switch (kind.activation) {
      case ActivationKind::Gated:
      case ActivationKind::JumpRelu:
        return 17.5;
      case ActivationKind::TopK:
        return 11.5;
      case ActivationKind::BatchTopK:
        return kind.nested ? 12.5 : 8.5;
      default:
        return 7.5;
    }
  };
  return kProgramBytes + 4 * (arrays() * V * F + 5 * (kind.tied ? 1 : 2) * D * F + 6 * V * D);
}

}  // namespace cresco::dictionaries
