#include "cresco/evals/fidelity.h"

#include "cresco/base/require.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/corpora/windows.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cresco::evals {
namespace {

using dictionaries::ColumnMoments;
using dictionaries::MetricValue;

double sum_of(const at::Tensor& t) { return t.sum(at::kDouble).item<double>(); }
double mean_of(const at::Tensor& t) { return t.to(at::kDouble).mean().item<double>(); }

// What is summed over predictions.
struct Sums {
  ColumnMoments logits;  // of all of them as one column
  double error = 0, centred_error = 0, centred = 0, overlap = 0;
  std::int64_t top1_native = 0, top1_recon = 0, top5_native = 0, top5_recon = 0;
};

// Moments of one block about its own mean: the differences are small numbers that float32 holds
// well, however large the logits are.
void add_logits(ColumnMoments& moments, const at::Tensor& logits_NV) {
  const double centre = logits_NV.mean().item<double>();
  const at::Tensor shifted_NV = logits_NV - centre;
  const auto count = static_cast<double>(logits_NV.numel());
  const double shift = sum_of(shifted_NV) / count;
  const double deviation = sum_of(shifted_NV.square_()) - count * shift * shift;
  // `centre` was rounded to float32 when it was subtracted.
  const double subtracted = static_cast<double>(static_cast<float>(centre));
  const auto one = [](double value) { return at::full({1}, value, at::kDouble); };
  moments.merge(logits_NV.numel(), one(subtracted + shift), one(deviation));
}

class Measurement {
 public:
  Measurement(const Predictions& predictions, const at::Tensor& native_VD,
              const at::Tensor& recon_VD)
      : predictions_(predictions), native_VD_(native_VD), recon_VD_(recon_VD) {
    for (at::Tensor* of_N : {&out_.nll_native_N, &out_.nll_recon_N, &out_.kl_N, &out_.agrees_N})
      *of_N = at::empty({predictions.target_N.size(0)}, at::kDouble);
  }

  void add(std::int64_t first, std::int64_t count) {
    const at::Tensor hidden_BD = predictions_.hidden_ND.narrow(0, first, count);
    const at::Tensor target_B = predictions_.target_N.narrow(0, first, count).unsqueeze(1);
    const at::Tensor native_BV = hidden_BD.mm(native_VD_.t());
    at::Tensor recon_BV = hidden_BD.mm(recon_VD_.t());
    add_ranks(first, count, target_B, native_BV, recon_BV);
    add_log_probabilities(first, count, target_B, native_BV, recon_BV);
    add_logits(sums_.logits, native_BV);
    const at::Tensor error_BV = recon_BV.sub_(native_BV);
    sums_.error += sum_of(error_BV.square());
    sums_.centred_error += sum_of((error_BV - error_BV.mean(1, true)).square_());
    sums_.centred += sum_of((native_BV - native_BV.mean(1, true)).square_());
  }

  ReadoutFidelity finish() {
    measure_matrix();
    const auto count = static_cast<double>(predictions_.target_N.size(0));
    const auto add = [&](const char* id, double value) { out_.values.push_back({id, value}); };
    const double native = mean_of(out_.nll_native_N), recon = mean_of(out_.nll_recon_N);
    add("n_predictions", count);
    add("logit_r2", 1 - sums_.error / sums_.logits.about_mean());
    add("centered_logit_r2", 1 - sums_.centred_error / sums_.centred);
    add("kl_native_to_recon", mean_of(out_.kl_N));
    add("nll_native", native);
    add("nll_recon", recon);
    add("delta_nll", recon - native);
    add("ppl_native", std::exp(native));
    add("ppl_recon", std::exp(recon));
    add("top1_native", static_cast<double>(sums_.top1_native) / count);
    add("top1_recon", static_cast<double>(sums_.top1_recon) / count);
    add("top5_native", static_cast<double>(sums_.top5_native) / count);
    add("top5_recon", static_cast<double>(sums_.top5_recon) / count);
    add("top1_agreement", mean_of(out_.agrees_N));
    add("top5_overlap", sums_.overlap / count);
    return std::move(out_);
  }

 private:
  void add_ranks(std::int64_t first, std::int64_t count, const at::Tensor& target_B1,
                 const at::Tensor& native_BV, const at::Tensor& recon_BV) {
    const std::int64_t few = std::min<std::int64_t>(5, native_BV.size(1));
    const at::Tensor native_B5 = std::get<1>(native_BV.topk(few, 1));
    const at::Tensor recon_B5 = std::get<1>(recon_BV.topk(few, 1));
    const auto hits = [&](const at::Tensor& ids) {
      return ids.eq(target_B1).sum().item<std::int64_t>();
    };
    const at::Tensor first_native = native_B5.narrow(1, 0, 1),
                     first_recon = recon_B5.narrow(1, 0, 1);
    sums_.top1_native += hits(first_native);
    sums_.top1_recon += hits(first_recon);
    sums_.top5_native += hits(native_B5);
    sums_.top5_recon += hits(recon_B5);
    sums_.overlap +=
        sum_of(native_B5.unsqueeze(2).eq(recon_B5.unsqueeze(1))) / static_cast<double>(few);
    out_.agrees_N.narrow(0, first, count).copy_(first_native.eq(first_recon).squeeze(1));
  }

  void add_log_probabilities(std::int64_t first, std::int64_t count, const at::Tensor& target_B1,
                             const at::Tensor& native_BV, const at::Tensor& recon_BV) {
    const at::Tensor native_log_BV = native_BV.log_softmax(1);
    const at::Tensor recon_log_BV = recon_BV.log_softmax(1);
    const auto loss = [&](const at::Tensor& log_BV) {
      return log_BV.gather(1, target_B1).squeeze(1).neg();
    };
    out_.nll_native_N.narrow(0, first, count).copy_(loss(native_log_BV));
    out_.nll_recon_N.narrow(0, first, count).copy_(loss(recon_log_BV));
    const at::Tensor difference_BV = (native_log_BV - recon_log_BV).mul_(native_log_BV.exp());
    out_.kl_N.narrow(0, first, count).copy_(difference_BV.sum(1, false, at::kDouble));
  }

  // Row by row in blocks, so that only some rows stand in memory as doubles.
  void measure_matrix() {
    const std::int64_t V = native_VD_.size(0);
    constexpr std::int64_t kRows = 4096;
    ColumnMoments moments;
    for (std::int64_t v = 0; v < V; v += kRows) moments.add(native_VD_.slice(0, v, v + kRows));
    std::vector<at::Tensor> errors, deviations;
    for (std::int64_t v = 0; v < V; v += kRows) {
      const at::Tensor native_BD = native_VD_.slice(0, v, v + kRows).to(at::kDouble);
      errors.push_back((recon_VD_.slice(0, v, v + kRows) - native_BD).square_().sum(1));
      deviations.push_back((native_BD - moments.mean_D()).square_().sum(1));
    }
    out_.row_error_V = at::cat(errors);
    out_.row_deviation_V = at::cat(deviations);
    const double error = sum_of(out_.row_error_V), deviation = sum_of(out_.row_deviation_V);
    out_.values = {
        {"matrix_ev", 1 - error / deviation}, {"matrix_sse", error}, {"matrix_var", deviation}};
  }

  const Predictions& predictions_;
  const at::Tensor &native_VD_, &recon_VD_;
  Sums sums_;
  ReadoutFidelity out_;
};

}  // namespace

at::Tensor first_windows(const Path& corpus, std::int64_t count, std::int64_t context) {
  require_usage(count > 0 && context > 1, "{} windows of {} ids: expected at least 1 of at least 2",
                count, context);
  const corpora::TokenStream stream(corpora::open_tokens(corpus),
                                    [](std::int64_t) { return true; });
  const std::int64_t there = std::min(count, stream.num_tokens() / context);
  require(there > 0, "{}: holds {} tokens, a window takes {}", corpus.string(), stream.num_tokens(),
          context);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(there * context));
  stream.read(0, ids);
  return at::tensor(ids, at::kLong).reshape({there, context});
}

Predictions predictions_of(const models::LanguageModel& model, const at::Tensor& ids_NT,
                           std::int64_t batch) {
  const torch::autograd::AutoGradMode no_grad(false);
  require(ids_NT.size(1) <= model.max_context(), "windows of {} ids, the model's context has {}",
          ids_NT.size(1), model.max_context());
  const auto largest = ids_NT.max().item<std::int64_t>();
  require(ids_NT.min().item<std::int64_t>() >= 0 && largest < model.vocab_size(),
          "the corpus holds id {}, the model's vocabulary has {}", largest, model.vocab_size());
  std::vector<at::Tensor> hidden;
  for (std::int64_t n = 0; n < ids_NT.size(0); n += batch)
    hidden.push_back(model.hidden(ids_NT.slice(0, n, n + batch))
                         .slice(1, 0, -1)
                         .flatten(0, 1)
                         .to(at::kFloat)
                         .contiguous());
  return {at::cat(hidden), ids_NT.slice(1, 1).flatten().contiguous()};
}

double readout_difference(const models::LanguageModel& model, const Predictions& predictions,
                          const at::Tensor& native_VD) {
  const torch::autograd::AutoGradMode no_grad(false);
  const at::Tensor some_BD = predictions.hidden_ND.slice(0, 0, 16);
  const at::Tensor own_BV = model.readout(some_BD.unsqueeze(0)).squeeze(0);
  return ((own_BV - some_BD.mm(native_VD.t())).norm() / own_BV.norm()).item<double>();
}

double ReadoutFidelity::value(const std::string& id) const {
  for (const auto& [name, value] : values)
    if (id == name) return value;
  fail("'{}' is no number of a readout", id);
}

ReadoutFidelity measure_fidelity(const Predictions& predictions, const at::Tensor& native_VD,
                                 const at::Tensor& recon_VD, std::int64_t block_bytes,
                                 const std::function<void(std::int64_t)>& done) {
  const torch::autograd::AutoGradMode no_grad(false);
  Measurement measurement(predictions, native_VD, recon_VD);
  const std::int64_t count = predictions.target_N.size(0);
  // Both logits, and up to five tensors of their size that are made of them.
  const std::int64_t block = dictionaries::rows_of_block(block_bytes, 7 * 4 * native_VD.size(0));
  for (std::int64_t n = 0; n < count; n += block) {
    measurement.add(n, std::min(block, count - n));
    if (done) done(std::min(n + block, count));
  }
  return measurement.finish();
}

std::vector<FidelityBin> fidelity_by_bin(const ReadoutFidelity& fidelity,
                                         const at::Tensor& target_N, const Partition& partition) {
  const at::Tensor bin_V = at::tensor(partition.bin_of, at::kLong);
  const at::Tensor bin_N = bin_V.index_select(0, target_N);
  std::vector<FidelityBin> bins;
  for (std::size_t b = 0; b < partition.bins.size(); ++b) {
    const at::Tensor rows = bin_V.eq(static_cast<std::int64_t>(b)).nonzero().squeeze(1);
    const at::Tensor targets = bin_N.eq(static_cast<std::int64_t>(b)).nonzero().squeeze(1);
    const auto mean_over = [](const at::Tensor& values, const at::Tensor& which) {
      return which.numel() > 0 ? mean_of(values.index_select(0, which))
                               : std::numeric_limits<double>::quiet_NaN();
    };
    const double error = sum_of(fidelity.row_error_V.index_select(0, rows));
    const double deviation = sum_of(fidelity.row_deviation_V.index_select(0, rows));
    const double native = mean_over(fidelity.nll_native_N, targets);
    const double recon = mean_over(fidelity.nll_recon_N, targets);
    bins.push_back({partition.name,
                    partition.bins[b],
                    {{"n_rows", static_cast<double>(rows.numel())},
                     {"matrix_ev", deviation > 0 ? 1 - error / deviation
                                                 : std::numeric_limits<double>::quiet_NaN()},
                     {"matrix_sse", error},
                     {"matrix_var", deviation},
                     {"res_norm_mean", mean_over(fidelity.row_error_V.sqrt(), rows)},
                     {"n_targets", static_cast<double>(targets.numel())},
                     {"nll_native", native},
                     {"nll_recon", recon},
                     {"delta_nll", recon - native},
                     {"ppl_native", std::exp(native)},
                     {"ppl_recon", std::exp(recon)},
                     {"kl_to_native", mean_over(fidelity.kl_N, targets)},
                     {"top1_agreement", mean_over(fidelity.agrees_N, targets)}}});
  }
  return bins;
}

}  // namespace cresco::evals
