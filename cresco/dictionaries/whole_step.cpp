#include "cresco/dictionaries/whole_step.h"

#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/dictionaries/slotted_step.h"
#include "cresco/kernels/crosscoder_whole.h"
#include "cresco/tensor/place.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cmath>

namespace cresco::dictionaries {
namespace {

using kernels::kErrorPieceRows;
using kernels::kPieceRows;
using kernels::num_pieces;

// Whether cuBLAS may round the inputs of float products to TF32: a setting of the whole process.
class ProductPrecision {
 public:
  ProductPrecision(at::Device device, bool tf32)
      : changes_(device.is_cuda()), before_(changes_ && at::globalContext().allowTF32CuBLAS()) {
    if (changes_) at::globalContext().setAllowTF32CuBLAS(tf32);
  }
  ~ProductPrecision() {
    if (changes_) at::globalContext().setAllowTF32CuBLAS(before_);
  }
  ProductPrecision(const ProductPrecision&) = delete;
  ProductPrecision& operator=(const ProductPrecision&) = delete;

 private:
  bool changes_, before_;
};

// The codes that revive dead features (AuxK), of those features alone.
struct Revival {
  at::Tensor dead_N, code_BN, pre_gradient_BN;
  bool there() const { return dead_N.defined(); }
};

template <class Number>
class WholeStep final : public SlottedStep {
 public:
  WholeStep(const CrosscoderConfig& config, const Activation& activation,
            const CrosscoderParameters& start, std::int64_t max_rows, std::int64_t tile_numbers,
            HeadShare share, at::Device device);

  void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
            const BatchNoise& noise) override;
  LossTerms update(const StepRates& rates) override;
  LossTerms gradients(const StepRates& rates, CrosscoderParameters& out) override;
  double batch_deviation() const override;

 private:
  static Number* data(const at::Tensor& t) { return t.mutable_data_ptr<Number>(); }
  // All heads, of which this rank has heads().
  std::int64_t all_heads() const { return heads() * share_.ranks->size(); }
  bool rounds_to_bf16() const { return config_.amp_dtype == "bf16" && dtype_ == at::kFloat; }

  void refresh_derived() override;
  kernels::Place place() const { return tensor::place_of(device_); }
  at::Tensor batch(const at::Tensor& of_all_rows) const { return of_all_rows.narrow(0, 0, rows_); }
  at::Tensor x_BKD() const;
  void encode();
  void find_dead(const StepRates& rates);
  void select_codes();
  at::Tensor codes_of(std::int64_t k);
  at::Tensor error_of(const at::Tensor& error_KBD, std::int64_t k) const;
  void write_error(const at::Tensor& error_BD, std::int64_t k, const Number* target,
                   std::int64_t target_stride, double target_factor, double scale,
                   const at::Tensor& square_KCD);
  void decode(double M);
  void revive(double M);
  LossTerms forward(const StepRates& rates);
  void backward_decoder(std::int64_t k, bool write);
  void add_revival(std::int64_t k);
  void backward_encoder(bool write);
  void backward(const StepRates& rates, bool write_gradients);
  kernels::Updated<Number> updated(const Slot& slot, std::int64_t offset, bool write) const;
  void update_small(const Slot& slot, const at::Tensor& gradient, double lr);

  HeadShare share_;
  std::int64_t rows_ = 0, max_rows_, tile_features_;

  at::Tensor x_B_KD_, x_bf16_, encoder_bf16_;
  // p, or with TopK and BatchTopK the codes; a head's codes, or their products with the error; dp.
  at::Tensor pre_BF_, work_BF_, pre_gradient_BF_;
  at::Tensor error_KBD_, revival_error_KBD_;
  at::Tensor norm_KF_, new_norm_KF_, threshold_F_, pull_F_, mean_score_F_, num_open_F_;
  // Partial sums by pieces of the rows.
  at::Tensor score_sum_CF_, num_open_CF_, near_CF_, code_pull_CF_, column_sum_CD_;
  at::Tensor square_KCD_, revival_square_KCD_;
  at::Tensor code_pull_F_, gradient_FD_, encoder_gradient_T_KD_;
  Revival revival_;
  kernels::AdamRates rates_;
};

template <class Number>
WholeStep<Number>::WholeStep(const CrosscoderConfig& config, const Activation& activation,
                             const CrosscoderParameters& start, std::int64_t max_rows,
                             std::int64_t tile_numbers, HeadShare share, at::Device device)
    : SlottedStep(config, activation, start, device), share_(share), max_rows_(max_rows) {
  const auto K = heads(), F = features(), D = padded_width(), B = max_rows;
  const auto pieces = num_pieces(B, kPieceRows), error_pieces = num_pieces(B, kErrorPieceRows);
  tile_features_ = std::clamp<std::int64_t>(tile_numbers / (K * D), 1, F);
  x_B_KD_ = zeros({B, K * D});
  if (rounds_to_bf16()) {
    x_bf16_ = zeros({B, K * D}, at::kBFloat16);
    encoder_bf16_ = zeros({F, K * D}, at::kBFloat16);
  }
  pre_BF_ = zeros({B, F});
  work_BF_ = zeros({B, F});
  pre_gradient_BF_ = zeros({B, F});
  error_KBD_ = zeros({K, B, D});
  square_KCD_ = zeros({K, error_pieces, D}, at::kDouble);
  if (uses_auxk()) {
    revival_error_KBD_ = zeros({K, B, D});
    revival_square_KCD_ = zeros({K, error_pieces, D}, at::kDouble);
  }
  column_sum_CD_ = zeros({error_pieces, D});
  norm_KF_ = zeros({K, F});
  new_norm_KF_ = zeros({K, F});
  threshold_F_ = zeros({F});
  score_sum_CF_ = zeros({pieces, F}, at::kDouble);
  num_open_CF_ = zeros({pieces, F}, at::kLong);
  near_CF_ = zeros({pieces, F}, at::kDouble);
  code_pull_CF_ = zeros({pieces, F});
  code_pull_F_ = zeros({F});
  gradient_FD_ = zeros({F, D});
  encoder_gradient_T_KD_ = zeros({tile_features_, K * D});
  refresh_derived();
}

template <class Number>
void WholeStep<Number>::refresh_derived() {
  const c10::DeviceGuard guard(device_);
  kernels::whole_norms<Number>(
      place(), {heads() * features(), padded_width(), data(decoder_.value), data(norm_KF_)});
}

// The batch with its columns of padding left out.
template <class Number>
at::Tensor WholeStep<Number>::x_BKD() const {
  return batch(x_B_KD_).view({rows_, heads(), padded_width()}).narrow(2, 0, width_);
}

template <class Number>
void WholeStep<Number>::load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
                             const BatchNoise& noise) {
  const c10::DeviceGuard guard(device_);
  StepStopwatch watch(device_);
  rows_ = static_cast<std::int64_t>(rows.size());
  require(rows_ >= 1 && rows_ <= max_rows_, "a batch of {} rows, expected 1 to {}", rows_,
          max_rows_);
  TORCH_INTERNAL_ASSERT(x_VKD.device() == device_ && x_VKD.size(1) == heads() &&
                        x_VKD.size(2) == width_);
  const at::Tensor index_B =
      at::from_blob(const_cast<std::int64_t*>(rows.data()), {rows_}, at::kLong).to(device_);
  x_BKD().copy_(x_VKD.index_select(0, index_B));
  if (noise.deviation > 0) {
    // Made here, so that it is the same wherever the step computes.
    const at::Tensor noise_BKD = at::zeros({rows_, heads(), width_}, dtype_);
    Number* const to = data(noise_BKD);
    at::parallel_for(0, rows_ * heads(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        add_noise(noise, i / heads() * all_heads() + share_.first(all_heads()) + i % heads(),
                  to + i * width_, width_);
    });
    x_BKD().add_(noise_BKD.to(device_));
  }
  watch.lap(times_.gather);
}

template <class Number>
void WholeStep<Number>::encode() {
  at::Tensor p_BF = batch(pre_BF_);
  if (rounds_to_bf16()) {
    at::Tensor x = batch(x_bf16_);
    x.copy_(batch(x_B_KD_));
    encoder_bf16_.copy_(encoder_.value);
    if (device_.is_cuda())
      at::mm_out(p_BF, x, encoder_bf16_.t(), at::kFloat);
    else
      at::mm_out(p_BF, x.to(at::kFloat), encoder_bf16_.to(at::kFloat).t());
  } else {
    at::mm_out(p_BF, batch(x_B_KD_), encoder_.value.t());
  }
  share_.ranks->sum(pre_BF_);
  const at::Tensor bias_F = bias_.value * static_cast<double>(heads()) + first_bias_KF_.sum(0);
  share_.ranks->sum(bias_F);
  p_BF.add_(bias_F);
}

// From p: which of the dead features each row revives, and their codes.
template <class Number>
void WholeStep<Number>::find_dead(const StepRates& rates) {
  revival_ = {};
  if (!uses_auxk() || rates.step <= config_.dead_window_steps) return;
  const at::Tensor dead_N =
      (rates.step - last_fired_F_).gt(config_.dead_window_steps).nonzero().squeeze(1);
  if (dead_N.size(0) == 0) return;
  const at::Tensor p_BN = batch(pre_BF_).index_select(1, dead_N);
  const at::Tensor chosen_BQ =
      std::get<1>(p_BN.abs().topk(std::min(config_.auxk_k, dead_N.size(0)), 1));
  revival_.dead_N = dead_N;
  revival_.code_BN = at::zeros_like(p_BN).scatter_(1, chosen_BQ, p_BN.gather(1, chosen_BQ).relu_());
  revival_.pre_gradient_BN = at::zeros_like(p_BN);
}

// TopK: the k largest of each row. BatchTopK: the B k largest of the batch. They replace p.
template <class Number>
void WholeStep<Number>::select_codes() {
  at::Tensor p_BF = batch(pre_BF_).relu_();
  const bool by_row = activation_.kind == ActivationKind::TopK;
  at::Tensor from = by_row ? p_BF : p_BF.view({1, rows_ * features()});
  const std::int64_t count = std::min(by_row ? activation_.k : rows_ * activation_.k, from.size(1));
  const auto [value, place] = from.topk(count, 1, true, /*sorted=*/false);
  from.zero_().scatter_(1, place, value);
  num_open_F_ = p_BF.gt(0).sum(0).mul_(all_heads());
}

// The codes of a head, (B, F), with their zeros.
template <class Number>
at::Tensor WholeStep<Number>::codes_of(std::int64_t k) {
  if (!gated()) return batch(pre_BF_);
  kernels::whole_codes<Number>(place(),
                               {.rows = rows_,
                                .features = features(),
                                .pre_BF = data(pre_BF_),
                                .norm_F = data(norm_KF_) + k * features(),
                                .threshold_F = data(threshold_F_),
                                .stretch = static_cast<Number>(config_.tanh_stretch_coefficient),
                                .code_BF = data(work_BF_),
                                .score_sum_CF = score_sum_CF_.mutable_data_ptr<double>(),
                                .num_open_CF = num_open_CF_.mutable_data_ptr<std::int64_t>()});
  return batch(work_BF_);
}

template <class Number>
at::Tensor WholeStep<Number>::error_of(const at::Tensor& error_KBD, std::int64_t k) const {
  return batch(error_KBD[k]);
}

// Of a head: comes in as codes . W_D, goes out as the error; its column sums are added to the
// decoder bias's gradient.
template <class Number>
void WholeStep<Number>::write_error(const at::Tensor& error_BD, std::int64_t k,
                                    const Number* target, std::int64_t target_stride,
                                    double target_factor, double scale,
                                    const at::Tensor& square_KCD) {
  const auto D = padded_width(), C = num_pieces(rows_, kErrorPieceRows);
  const at::Tensor square_CD = square_KCD[k];
  kernels::whole_error<Number>(place(), {.rows = rows_,
                                         .width = D,
                                         .bias_D = data(decoder_bias_.value) + k * D,
                                         .target_BD = target,
                                         .target_stride = target_stride,
                                         .target_factor = static_cast<Number>(target_factor),
                                         .scale = static_cast<Number>(scale),
                                         .error_BD = data(error_BD),
                                         .square_CD = square_CD.mutable_data_ptr<double>(),
                                         .column_sum_CD = data(column_sum_CD_)});
  decoder_bias_gradient_KD_[k].add_(column_sum_CD_.narrow(0, 0, C).sum(0));
}

template <class Number>
void WholeStep<Number>::decode(double M) {
  const auto D = padded_width();
  for (std::int64_t k = 0; k < heads(); ++k) {
    at::Tensor error_BD = error_of(error_KBD_, k);
    at::mm_out(error_BD, codes_of(k), decoder_.value[k]);
    write_error(error_BD, k, data(x_B_KD_) + k * D, heads() * D, 1, 2 / M, square_KCD_);
  }
}

// The same of the dead features' codes, to what the reconstruction misses: -M/2 of its error.
template <class Number>
void WholeStep<Number>::revive(double M) {
  for (std::int64_t k = 0; k < heads(); ++k) {
    at::Tensor error_BD = error_of(revival_error_KBD_, k);
    at::mm_out(error_BD, revival_.code_BN, decoder_.value[k].index_select(0, revival_.dead_N));
    write_error(error_BD, k, data(error_of(error_KBD_, k)), padded_width(), -M / 2,
                2 * config_.auxk_coefficient / M, revival_square_KCD_);
  }
}

template <class Number>
LossTerms WholeStep<Number>::forward(const StepRates& rates) {
  const double M = static_cast<double>(rows_ * all_heads());
  const auto C = num_pieces(rows_, kPieceRows), error_pieces = num_pieces(rows_, kErrorPieceRows);
  StepStopwatch watch(device_);
  encode();
  watch.lap(times_.encode);
  find_dead(rates);
  if (gated()) {
    at::exp_out(threshold_F_, log_threshold_.value);
    score_sum_CF_.zero_();
    num_open_CF_.zero_();
  } else {
    select_codes();
  }
  watch.lap(times_.gates);

  decoder_bias_gradient_KD_.zero_();
  decode(M);
  if (revival_.there()) revive(M);
  const auto squares = [&](const at::Tensor& square_KCD) {
    return square_KCD.narrow(1, 0, error_pieces).sum();
  };
  const at::Tensor none = zeros({}, at::kDouble);
  at::Tensor l_s = none;
  if (gated()) {
    mean_score_F_ = score_sum_CF_.narrow(0, 0, C).sum(0);
    num_open_F_ = num_open_CF_.narrow(0, 0, C).sum(0);
    share_.ranks->sum(mean_score_F_);
    share_.ranks->sum(num_open_F_);
    mean_score_F_.div_(M);
    l_s = (mean_score_F_ * (1 + mean_score_F_ / config_.frequency_scale)).sum();
  }
  const at::Tensor both =
      at::stack({squares(square_KCD_), revival_.there() ? squares(revival_square_KCD_) : none});
  share_.ranks->sum(both);
  // One way back for all numbers.
  const at::Tensor numbers = at::stack({both[0], both[1], l_s, num_open_F_.sum().to(at::kDouble),
                                        num_open_F_.eq(0).sum().to(at::kDouble)})
                                 .cpu();
  const double* const n = numbers.const_data_ptr<double>();
  LossTerms terms;
  terms.sum_squared_error = n[0];
  terms.l_rec = n[0] / M;
  terms.l_aux = n[1] / M;
  terms.l_s = n[2];
  terms.l0 = n[3] / M;
  const std::int64_t num_dead = revival_.there() ? revival_.dead_N.size(0) : 0;
  terms.num_silent = uses_auxk() ? num_dead : std::llround(n[4]);
  terms.loss =
      terms.l_rec + rates.l1_coefficient * terms.l_s + config_.auxk_coefficient * terms.l_aux;
  watch.lap(times_.decode);
  return terms;
}

template <class Number>
kernels::Updated<Number> WholeStep<Number>::updated(const Slot& slot, std::int64_t offset,
                                                    bool write) const {
  if (write) return {.value = data(slot.value) + offset, .gradient = data(slot.gradient) + offset};
  return {.value = data(slot.value) + offset,
          .exp_avg = data(slot.exp_avg) + offset,
          .exp_avg_sq = data(slot.exp_avg_sq) + offset};
}

template <class Number>
void WholeStep<Number>::backward_decoder(std::int64_t k, bool write) {
  const auto F = features(), D = padded_width();
  const at::Tensor error_BD = error_of(error_KBD_, k);
  at::Tensor work_BF = batch(work_BF_);
  at::mm_out(work_BF, error_BD, decoder_.value[k].t());
  kernels::whole_differentiate<Number>(
      place(), {.rows = rows_,
                .features = F,
                .pre_BF = data(pre_BF_),
                .threshold_F = gated() ? data(threshold_F_) : nullptr,
                .norm_F = data(norm_KF_) + k * F,
                .pull_F = gated() ? data(pull_F_) : nullptr,
                .stretch = static_cast<Number>(config_.tanh_stretch_coefficient),
                .half_window = static_cast<Number>(kThresholdWindow / 2),
                .product_BF = data(work_BF_),
                .pre_gradient_BF = data(pre_gradient_BF_),
                .near_CF = near_CF_.mutable_data_ptr<double>(),
                .code_pull_CF = data(code_pull_CF_)});
  at::mm_out(gradient_FD_, work_BF.t(), error_BD);
  if (gated())
    at::sum_out(code_pull_F_, code_pull_CF_.narrow(0, 0, num_pieces(rows_, kPieceRows)),
                at::IntArrayRef{0});
  if (revival_.there()) add_revival(k);
  kernels::whole_update<Number>(place(), {.rows = F,
                                          .columns = D,
                                          .tensor = updated(decoder_, k * F * D, write),
                                          .rates = rates_,
                                          .gradient = data(gradient_FD_),
                                          .pull_F = gated() ? data(pull_F_) : nullptr,
                                          .code_pull_F = data(code_pull_F_),
                                          .norm_F = data(norm_KF_) + k * F,
                                          .new_norm_F = data(new_norm_KF_) + k * F});
}

// What the dead features' codes add to the gradients of a head. No feature is there twice.
template <class Number>
void WholeStep<Number>::add_revival(std::int64_t k) {
  const at::Tensor error_BD = error_of(revival_error_KBD_, k),
                   decoder_ND = decoder_.value[k].index_select(0, revival_.dead_N);
  revival_.pre_gradient_BN.add_(error_BD.mm(decoder_ND.t()).mul_(revival_.code_BN.gt(0)));
  gradient_FD_.index_add_(0, revival_.dead_N, revival_.code_BN.t().mm(error_BD));
}

template <class Number>
void WholeStep<Number>::backward_encoder(bool write) {
  const auto F = features(), KD = heads() * padded_width();
  const at::Tensor dp_BF = batch(pre_gradient_BF_);
  for (std::int64_t f = 0; f < F; f += tile_features_) {
    const std::int64_t count = std::min(tile_features_, F - f);
    at::Tensor gradient = encoder_gradient_T_KD_.narrow(0, 0, count);
    at::mm_out(gradient, dp_BF.narrow(1, f, count).t(), batch(x_B_KD_));
    kernels::whole_update<Number>(place(), {.rows = count,
                                            .columns = KD,
                                            .tensor = updated(encoder_, f * KD, write),
                                            .rates = rates_,
                                            .gradient = data(gradient)});
  }
}

// All gradients. Those of the two weights are used where they arise, or written out.
template <class Number>
void WholeStep<Number>::backward(const StepRates& rates, bool write_gradients) {
  StepStopwatch watch(device_);
  rates_ = weight_rates(rates.lr);
  if (gated())
    pull_F_ = mean_score_F_.mul(2 / config_.frequency_scale)
                  .add_(1)
                  .mul_(rates.l1_coefficient / static_cast<double>(rows_ * all_heads()) *
                        config_.tanh_stretch_coefficient)
                  .to(dtype_);
  near_CF_.zero_();
  pre_gradient_BF_.zero_();
  for (std::int64_t k = 0; k < heads(); ++k) backward_decoder(k, write_gradients);
  at::Tensor dp_BF = batch(pre_gradient_BF_);
  if (revival_.there()) dp_BF.index_add_(1, revival_.dead_N, revival_.pre_gradient_BN);
  share_.ranks->sum(pre_gradient_BF_);
  backward_encoder(write_gradients);
  at::sum_out(bias_gradient_F_, dp_BF, at::IntArrayRef{0});
  if (gated()) {
    const at::Tensor near_F = near_CF_.narrow(0, 0, num_pieces(rows_, kPieceRows)).sum(0);
    share_.ranks->sum(near_F);
    threshold_gradient_F_.copy_(
        threshold_F_.to(at::kDouble).square_().mul_(-1 / kThresholdWindow).mul_(near_F));
  }
  watch.lap(times_.backward);
}

template <class Number>
void WholeStep<Number>::update_small(const Slot& slot, const at::Tensor& gradient, double lr) {
  kernels::whole_update<Number>(place(), {.rows = slot.value.numel(),
                                          .columns = 1,
                                          .tensor = updated(slot, 0, false),
                                          .rates = adam_rates(lr),
                                          .gradient = data(gradient)});
}

template <class Number>
LossTerms WholeStep<Number>::update(const StepRates& rates) {
  const c10::DeviceGuard guard(device_);
  const ProductPrecision precision(device_, config_.amp_dtype != "fp32");
  const LossTerms terms = forward(rates);
  if (!std::isfinite(terms.loss)) return terms;
  backward(rates, false);
  StepStopwatch watch(device_);
  update_small(bias_, bias_gradient_F_, rates.lr);
  update_small(decoder_bias_, decoder_bias_gradient_KD_, rates.lr);
  if (gated()) update_small(log_threshold_, threshold_gradient_F_, rates.threshold_lr);
  std::swap(norm_KF_, new_norm_KF_);
  num_updates_.add_(1);
  if (uses_auxk()) last_fired_F_.masked_fill_(num_open_F_.gt(0), rates.step);
  watch.lap(times_.small);
  return terms;
}

template <class Number>
LossTerms WholeStep<Number>::gradients(const StepRates& rates, CrosscoderParameters& out) {
  const c10::DeviceGuard guard(device_);
  const ProductPrecision precision(device_, config_.amp_dtype != "fp32");
  make_gradient_buffers();
  const LossTerms terms = forward(rates);
  backward(rates, true);
  write_small_gradients();
  out = released(&Slot::gradient);
  return terms;
}

template <class Number>
double WholeStep<Number>::batch_deviation() const {
  const at::Tensor x64 = x_BKD().to(at::kDouble);
  const double mean = share_.ranks->sum_of(x64.sum().template item<double>()) /
                      static_cast<double>(rows_ * all_heads() * width_);
  return share_.ranks->sum_of((x64 - mean).square_().sum().template item<double>());
}

}  // namespace

StepBytes whole_step_bytes(const CrosscoderConfig& config, const Activation& activation,
                           std::int64_t B, std::int64_t K, std::int64_t d) {
  const auto of = [](auto... factors) { return (1.0 * ... * static_cast<double>(factors)); };
  const std::int64_t F = config.d_sae, D = padded_to_vectors(d, sizeof(float)),
                     C = num_pieces(B, kPieceRows), E = num_pieces(B, kErrorPieceRows);
  const std::int64_t tile = std::clamp<std::int64_t>(kEncoderTileNumbers / (K * D), 1, F);
  const bool revives = config.auxk_coefficient > 0, rounds = config.amp_dtype == "bf16";
  // As the members of WholeStep and SlottedStep.
  StepBytes bytes{.kept = 4 * (3 * (2 * of(K, D, F) + of(2, F) + of(K, D))  // weights, moments
                               + of(B, K, D) + 3 * of(B, F) + of(K, B, D) + 2 * of(K, F) +
                               of(C + 6, F) + of(E + K, D) + of(F, D) + of(tile, K, D) + of(K, F)) +
                          8 * (of(K, E, D) + 3 * of(C, F) + of(F)) +
                          (rounds ? 2 * (of(B, K, D) + of(F, K, D)) : 0) +
                          (revives ? 4 * (of(K, B, D) + 2 * of(B, F)) + 8 * of(K, E, D) : 0),
                  .passing = 16 * of(B, K, d)};  // a batch's deviation, summed in double
  if (activation.kind == ActivationKind::TopK || activation.kind == ActivationKind::BatchTopK)
    bytes.passing = std::max(bytes.passing, 2 * (4 + 8) * of(B, F));
  if (revives) bytes.passing = std::max(bytes.passing, 4 * (4 * of(B, F) + 2 * of(F, D)));
  return bytes;
}

void check_device(at::Device device, const CrosscoderConfig& config, const Activation& activation) {
  const std::string name = device.str();
  if (device.is_cpu()) {
    require_usage(config.amp_dtype != "tf32", "amp_dtype is tf32: only a GPU has it");
    return;
  }
  require_usage(
      activation.kind != ActivationKind::Gated && activation.kind != ActivationKind::SharedJumpRelu,
      "--device {}: kinds gated and jumprelu are trained on the CPU", name);
  require_usage(config.optimizer != "sparse_adam", "--device {}: optimizer {} runs on the CPU only",
                name, config.optimizer);
}

std::unique_ptr<CrosscoderStep> make_whole_step(const CrosscoderConfig& config,
                                                const Activation& activation,
                                                const CrosscoderParameters& start,
                                                std::int64_t max_rows, std::int64_t tile_numbers,
                                                HeadShare share, at::Device device) {
  TORCH_INTERNAL_ASSERT(config.optimizer != "sparse_adam");
  if (start.decoder_KFD.scalar_type() == at::kDouble)
    return std::make_unique<WholeStep<double>>(config, activation, start, max_rows, tile_numbers,
                                               share, device);
  return std::make_unique<WholeStep<float>>(config, activation, start, max_rows, tile_numbers,
                                            share, device);
}

}  // namespace cresco::dictionaries
