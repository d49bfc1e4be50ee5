#include "cresco/dictionaries/crosscoder_step.h"

#include "cresco/base/progress.h"
#include "cresco/base/require.h"
#include "cresco/dictionaries/slotted_step.h"
#include "cresco/kernels/bf16_product.h"
#include "cresco/kernels/crosscoder.h"
#include "cresco/tensor/large_pages.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

// MKL's, inside libtorch_cpu: bfloat16 inputs, sums and result in float.
extern "C" void cblas_gemm_bf16bf16f32(int layout, int transpose_a, int transpose_b, int m, int n,
                                       int k, float alpha, const std::uint16_t* a, int lda,
                                       const std::uint16_t* b, int ldb, float beta, float* c,
                                       int ldc);

namespace cresco::dictionaries {
namespace {

using kernels::CrosscoderSizes;
using kernels::Gate;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

template <class Task>
void parallel(std::int64_t n, const Task& task) {
  at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) task(i);
  });
}

// The codes of some features, by feature, and the error that they are to make smaller.
template <class Number>
struct CodeBuffers {
  at::Tensor value_FB, row_FB, count_F, begin_FN, pre_gradient_FB, error_SBC;

  CodeBuffers() = default;
  CodeBuffers(const CrosscoderSizes& s, std::int64_t blocks, at::ScalarType dtype)
      : value_FB(tensor::large_zeros({s.features, s.row_stride}, dtype)),
        row_FB(tensor::large_zeros({s.features, s.row_stride}, at::kInt)),
        count_F(at::zeros({s.features}, at::kInt)),
        begin_FN(at::zeros({s.features, blocks + 1}, at::kInt)),
        pre_gradient_FB(tensor::large_zeros({s.features, s.row_stride}, dtype)),
        error_SBC(tensor::large_zeros({s.heads * s.width * s.rows}, dtype)) {}

  kernels::Entries<Number> entries() const {
    return {value_FB.mutable_data_ptr<Number>(), row_FB.mutable_data_ptr<std::int32_t>(),
            count_F.mutable_data_ptr<std::int32_t>(), begin_FN.mutable_data_ptr<std::int32_t>()};
  }
};

class Joint;

template <class Number>
class SparseStep final : public SlottedStep {
 public:
  SparseStep(const CrosscoderConfig& config, const Activation& activation,
             const CrosscoderParameters& start, std::int64_t max_rows, double dense_share,
             HeadShare share);

  void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
            const BatchNoise& noise) override;
  LossTerms update(const StepRates& rates) override;
  LossTerms gradients(const StepRates& rates, CrosscoderParameters& out) override;
  double batch_deviation() const override;
  bool can_join(const SparseStep& other) const {
    return !encoder_bf16_.defined() && share_.ranks->size() == 1 &&
           max_.heads == other.max_.heads && max_.width == other.max_.width &&
           max_.rows == other.max_.rows;
  }

 private:
  static Number* data(const at::Tensor& t) { return t.mutable_data_ptr<Number>(); }
  static std::uint32_t* words(const at::Tensor& t) {
    return reinterpret_cast<std::uint32_t*>(t.mutable_data_ptr<std::int32_t>());
  }

  // All heads, of which this rank has max_.heads.
  std::int64_t all_heads() const { return max_.heads * share_.ranks->size(); }
  double rows_and_heads() const { return static_cast<double>(sizes_.rows * all_heads()); }

  friend class Joint;
  void set_batch_rows(std::int64_t rows);
  template <class Stored>
  void gather(const Stored* source, std::span<const std::int64_t> rows, const BatchNoise& noise);
  void encode();
  void encode_bf16();
  void select_entries();
  void find_dead_codes(const StepRates& rates);
  void take_entries(const at::Tensor& values_QB, const at::Tensor& features_QB,
                    CodeBuffers<Number>& codes);
  void find_block_begins(const CodeBuffers<Number>& codes);
  void run_gates();
  kernels::DecodeArguments<Number> decode_arguments(CodeBuffers<Number>& codes,
                                                    const at::Tensor& target_SBC, double scale);
  void decode_whole(const kernels::DecodeArguments<Number>& arguments);
  // A thread's room for whole products over some features: p with zeros; the codes, or their
  // products with the error; dp; gradients.
  struct Tile {
    at::Tensor pre_TB, work_TB, pre_gradient_TB, along_T, gradient_TD, encoder_gradient_T_KD;
  };
  Tile& tile();
  at::Tensor write_dense_codes(const kernels::DecodeArguments<Number>& arguments, Tile& tile,
                               std::int64_t head, std::int64_t begin, std::int64_t end);
  void backward_entries(const kernels::BackwardArguments<Number>& arguments);
  void backward_whole(const kernels::BackwardArguments<Number>& arguments);
  void multiply_slabs(const at::Tensor& left_TB, std::int64_t count, const at::Tensor& rows_SBC,
                      std::int64_t head, const at::Tensor& out_TD) const;
  Number* packed_panel(std::int64_t head, std::int64_t panel) const;
  void backward_decoder_tile(const kernels::BackwardArguments<Number>& arguments, Tile& tile,
                             std::int64_t begin, std::int64_t end);
  void backward_encoder_tile(const kernels::BackwardArguments<Number>& arguments, Tile& tile,
                             std::int64_t begin, std::int64_t end);
  at::Tensor error_of(const kernels::Slab& slab) const;
  double run_decode(CodeBuffers<Number>& codes, const at::Tensor& target_SBC, double scale,
                    bool adds_to_bias);
  void run_band();
  void run_backward(const StepRates& rates, bool write_gradients);
  LossTerms forward(const StepRates& rates);
  void find_largest_norms();
  void sum_pre_gradients();
  void refresh_derived() override;
  kernels::Updated<Number> updated(const Slot& slot, bool write_gradients) const;

  double dense_share_;
  HeadShare share_;
  CrosscoderSizes max_, sizes_;  // of the largest batch, and of the one at hand
  kernels::RowBlocks blocks_;

  at::Tensor x_B_KD_, x_SBC_;
  bool encoded_ = false;  // a joint product has made p already
  // With amp_dtype bf16: what the large product reads, and x as its kernel wants it.
  at::Tensor encoder_bf16_, x_bf16_, packed_x_;
  CodeBuffers<Number> codes_, dead_codes_;
  at::Tensor dead_target_SBC_;
  at::Tensor norm_FK_, new_norm_FK_, largest_norm_F_, threshold_F_, total_bias_F_, pull_F_;
  bool any_far_ = false;  // whether a threshold exceeds half the window: then window_KWF_ is in use
  at::Tensor positive_WF_, window_KWF_, num_closed_FK_, score_sum_F_, num_open_F_, near_F_;
  at::Tensor squared_error_SN_, column_sum_SNC_, band_UF_;
  std::vector<at::Tensor> scratch_;
  std::vector<double> mean_score_F_;
  std::int64_t num_dead_ = 0;
  bool dead_codes_active_ = false;
  // While many gates are open: whole products, some features at a time. Three arrays of those of
  // the gradients fit a core's second-level cache.
  static constexpr std::int64_t kTileFeatures = 512;
  std::int64_t tile_features_;
  bool decodes_whole_ = false, differentiates_whole_ = false;
  std::vector<Tile> tiles_;
  at::Tensor packed_error_;
};

template <class Number>
SparseStep<Number>::SparseStep(const CrosscoderConfig& config, const Activation& activation,
                               const CrosscoderParameters& start, std::int64_t max_rows,
                               double dense_share, HeadShare share)
    : SlottedStep(config, activation, start, at::kCPU), dense_share_(dense_share), share_(share) {
  max_ = {.rows = max_rows,
          .row_stride = round_up(max_rows, 32),
          .heads = heads(),
          .width = padded_width(),
          .features = features()};
  sizes_ = max_;
  const auto K = max_.heads, F = max_.features, D = max_.width, S = kernels::num_slabs(max_);
  // As many rows of a slab as leave half of a second-level cache of 1 MiB to the decoder's rows.
  blocks_.rows = std::max<std::int64_t>(
      32, (std::int64_t{1} << 19) /
              static_cast<std::int64_t>(sizeof(Number) * std::min(D, kernels::kSlabColumns)) / 32 *
              32);
  blocks_.count = (max_rows + blocks_.rows - 1) / blocks_.rows;

  const auto large = [&](at::IntArrayRef shape) { return tensor::large_zeros(shape, dtype_); };
  const auto small = [&](at::IntArrayRef shape) { return at::zeros(shape, dtype_); };
  x_B_KD_ = large({max_rows, K * D});
  if (config_.amp_dtype == "bf16" && dtype_ == at::kFloat) {
    encoder_bf16_ = tensor::large_zeros({F, K * D}, at::kBFloat16);
    x_bf16_ = tensor::large_zeros({max_rows, K * D}, at::kBFloat16);
    packed_x_ = tensor::large_zeros(
        {kernels::Bf16Product{.columns = max_rows, .depth = K * D}.packed_size()}, at::kInt);
  }
  x_SBC_ = large({K * D * max_rows});
  codes_ = CodeBuffers<Number>(max_, blocks_.count, dtype_);
  if (uses_auxk()) {
    dead_codes_ = CodeBuffers<Number>(max_, blocks_.count, dtype_);
    dead_target_SBC_ = large({K * D * max_rows});
  }
  norm_FK_ = small({F, K});
  new_norm_FK_ = small({F, K});
  largest_norm_F_ = small({F});
  threshold_F_ = small({F});
  total_bias_F_ = small({F});
  pull_F_ = small({F});
  positive_WF_ = at::zeros({max_.row_stride / 32, kernels::bits_stride(max_)}, at::kInt);
  num_closed_FK_ = at::zeros({F, K}, at::kInt);
  score_sum_F_ = at::zeros({F}, at::kDouble);
  num_open_F_ = at::zeros({F}, at::kLong);
  near_F_ = at::zeros({F}, at::kDouble);
  squared_error_SN_ = at::zeros({S, blocks_.count}, at::kDouble);
  column_sum_SNC_ = small({S, blocks_.count, kernels::kSlabColumns});
  band_UF_ = small({K * kernels::strips_per_head<Number>(max_), F});
  mean_score_F_.resize(static_cast<std::size_t>(F));
  const std::int64_t scratch_size =
      std::max(kernels::backward_scratch(max_),
               std::min(F, kernels::kBandFeatures) * kernels::kStripColumns<Number>);
  scratch_.resize(static_cast<std::size_t>(at::get_num_threads()));
  for (at::Tensor& scratch : scratch_) scratch = large({scratch_size});
  tiles_.resize(scratch_.size());
  tile_features_ = std::clamp<std::int64_t>(
      (std::int64_t{3} << 19) / (3 * max_.row_stride * static_cast<std::int64_t>(sizeof(Number))) /
          32 * 32,
      64, kTileFeatures);
  refresh_derived();
}

template <class Number>
void SparseStep<Number>::refresh_derived() {
  if (encoder_bf16_.defined()) encoder_bf16_.copy_(encoder_.value);
  parallel(features(), [&](std::int64_t f) {
    kernels::decoder_norms<Number>(max_, data(decoder_.value), data(norm_FK_), f, f + 1);
  });
  find_largest_norms();
}

template <class Number>
void SparseStep<Number>::find_largest_norms() {
  if (share_.ranks->size() == 1) return;
  at::amax_out(largest_norm_F_, norm_FK_, 1);
  share_.ranks->largest(largest_norm_F_);
}

template <class Number>
void SparseStep<Number>::set_batch_rows(std::int64_t rows) {
  require(rows >= 1 && rows <= max_.rows, "a batch of {} rows, expected 1 to {}", rows, max_.rows);
  sizes_ = max_;
  sizes_.rows = rows;
  blocks_.count = (rows + blocks_.rows - 1) / blocks_.rows;
}

template <class Number>
void SparseStep<Number>::load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
                              const BatchNoise& noise) {
  StepStopwatch watch(device_);
  set_batch_rows(static_cast<std::int64_t>(rows.size()));
  TORCH_INTERNAL_ASSERT(x_VKD.is_contiguous() && x_VKD.size(1) == sizes_.heads &&
                        x_VKD.size(2) == width_);
  if (x_VKD.scalar_type() == at::kBFloat16)
    gather(x_VKD.const_data_ptr<at::BFloat16>(), rows, noise);
  else
    gather(x_VKD.const_data_ptr<Number>(), rows, noise);
  watch.lap(times_.gather);
}

template <class Number>
template <class Stored>
void SparseStep<Number>::gather(const Stored* source, std::span<const std::int64_t> rows,
                                const BatchNoise& noise) {
  const CrosscoderSizes& s = sizes_;
  Number* const by_row = data(x_B_KD_);
  Number* const by_slab = data(x_SBC_);
  at::parallel_for(0, s.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      Number* const row = by_row + b * s.heads * s.width;
      const Stored* const from = source + rows[static_cast<std::size_t>(b)] * s.heads * width_;
      for (std::int64_t k = 0; k < s.heads; ++k)
        std::copy_n(from + k * width_, width_, row + k * s.width);
      if (noise.deviation > 0)
        for (std::int64_t k = 0; k < s.heads; ++k)
          add_noise(noise, b * all_heads() + share_.first(all_heads()) + k, row + k * s.width,
                    width_);
      for (std::int64_t index = 0; index < kernels::num_slabs(s); ++index) {
        const kernels::Slab slab = kernels::slab_at(s, index);
        std::memcpy(by_slab + slab.offset(s) + b * slab.columns,
                    row + slab.head * s.width + slab.column,
                    static_cast<std::size_t>(slab.columns) * sizeof(Number));
      }
    }
  });
}

// p without its bias, by feature: one product of depth K d.
template <class Number>
void SparseStep<Number>::encode() {
  const CrosscoderSizes& s = sizes_;
  if (encoded_) {
    encoded_ = false;
  } else if (encoder_bf16_.defined()) {
    encode_bf16();
  } else {
    at::Tensor p_FB = codes_.value_FB.narrow(1, 0, s.rows);
    at::mm_out(p_FB, encoder_.value, x_B_KD_.narrow(0, 0, s.rows).t());
  }
  at::mul_out(total_bias_F_, bias_.value, at::scalar_tensor(static_cast<double>(s.heads), dtype_));
  total_bias_F_.add_(first_bias_KF_.sum(0));
  share_.ranks->sum(codes_.value_FB);
  share_.ranks->sum(total_bias_F_);
}

template <class Number>
void SparseStep<Number>::encode_bf16() {
  if constexpr (sizeof(Number) == 4) {
    const CrosscoderSizes& s = sizes_;
    at::Tensor x = x_bf16_.narrow(0, 0, s.rows);
    x.copy_(x_B_KD_.narrow(0, 0, s.rows));
    const auto bits = [](const at::Tensor& t) {
      return static_cast<const std::uint16_t*>(t.const_data_ptr());
    };
    const std::int64_t depth = s.heads * s.width;
    if (depth % 2 == 0 && kernels::has_bf16_product()) {
      const kernels::Bf16Product product{
          .rows = s.features,
          .columns = s.rows,
          .depth = depth,
          .a = bits(encoder_bf16_),
          .b = bits(x),
          .packed = reinterpret_cast<std::uint32_t*>(packed_x_.mutable_data_ptr<std::int32_t>()),
          .out = data(codes_.value_FB),
          .out_stride = s.row_stride};
      parallel(product.panels(), [&](std::int64_t panel) { kernels::pack_bf16(product, panel); });
      at::parallel_for(0, s.features, 48, [&](std::int64_t begin, std::int64_t end) {
        kernels::bf16_product(product, begin, end);
      });
      return;
    }
    constexpr int kRowMajor = 101, kAsIs = 111, kTransposed = 112;
    cblas_gemm_bf16bf16f32(
        kRowMajor, kAsIs, kTransposed, static_cast<int>(s.features), static_cast<int>(s.rows),
        static_cast<int>(depth), 1, bits(encoder_bf16_), static_cast<int>(depth), bits(x),
        static_cast<int>(depth), 0, data(codes_.value_FB), static_cast<int>(s.row_stride));
  }
}

template <class Number>
void SparseStep<Number>::run_gates() {
  const CrosscoderSizes& s = sizes_;
  at::exp_out(threshold_F_, log_threshold_.value);
  any_far_ = threshold_F_.ge(kThresholdWindow / 2).any().template item<bool>();
  if (any_far_ && !window_KWF_.defined())
    window_KWF_ =
        tensor::large_zeros({heads(), max_.row_stride / 32, kernels::bits_stride(max_)}, at::kInt);
  const kernels::GatesArguments<Number> arguments{
      .sizes = s,
      .blocks = blocks_,
      .entries = codes_.entries(),
      .bias_F = data(total_bias_F_),
      .norm_FK = data(norm_FK_),
      .threshold_F = data(threshold_F_),
      .largest_norm_F = share_.ranks->size() > 1 ? data(largest_norm_F_) : nullptr,
      .stretch = static_cast<Number>(config_.tanh_stretch_coefficient),
      .half_window = static_cast<Number>(kThresholdWindow / 2),
      .positive_WF = words(positive_WF_),
      .window_KWF = any_far_ ? words(window_KWF_) : nullptr,
      .num_closed_FK = num_closed_FK_.mutable_data_ptr<std::int32_t>(),
      .score_sum_F = score_sum_F_.mutable_data_ptr<double>(),
      .num_open_F = num_open_F_.mutable_data_ptr<std::int64_t>()};
  at::parallel_for(0, features(), 64, [&](std::int64_t begin, std::int64_t end) {
    kernels::gates(arguments, begin, end);
  });
  share_.ranks->sum(score_sum_F_);
  share_.ranks->sum(num_open_F_);
}

// Codes given as the values of some features of each row, (Q, B), become entries by feature. Values
// that are not above 0 are left out.
template <class Number>
void SparseStep<Number>::take_entries(const at::Tensor& values_QB, const at::Tensor& features_QB,
                                      CodeBuffers<Number>& codes) {
  const auto entries = codes.entries();
  std::fill_n(entries.count_F, features(), 0);
  const auto values = values_QB.accessor<Number, 2>();
  const auto chosen = features_QB.template accessor<std::int64_t, 2>();
  for (std::int64_t b = 0; b < values_QB.size(1); ++b)
    for (std::int64_t q = 0; q < values_QB.size(0); ++q) {
      if (!(values[q][b] > 0)) continue;
      const std::int64_t f = chosen[q][b];
      const std::int64_t place = f * sizes_.row_stride + entries.count_F[f]++;
      entries.value_FB[place] = values[q][b];
      entries.row_FB[place] = static_cast<std::int32_t>(b);
    }
  find_block_begins(codes);
}

template <class Number>
void SparseStep<Number>::find_block_begins(const CodeBuffers<Number>& codes) {
  at::parallel_for(0, features(), 256, [&](std::int64_t begin, std::int64_t end) {
    kernels::find_blocks(sizes_, blocks_, codes.entries(), begin, end);
  });
}

// TopK: the k largest of each row. BatchTopK: the B k largest of the batch; a tie is broken by
// place.
template <class Number>
void SparseStep<Number>::select_entries() {
  const std::int64_t B = sizes_.rows, F = features();
  const at::Tensor p_FB = codes_.value_FB.narrow(1, 0, B).add(total_bias_F_.unsqueeze(1)).relu_();
  if (activation_.kind == ActivationKind::TopK) {
    const auto [values_QB, features_QB] = p_FB.topk(std::min(activation_.k, F), 0);
    take_entries(values_QB, features_QB, codes_);
  } else {
    const std::int64_t count = std::min(B * activation_.k, B * F);
    at::Tensor places = std::get<1>(p_FB.flatten().topk(count, -1, true, /*sorted=*/false));
    places = std::get<0>(places.sort());  // by feature, then row
    const auto entries = codes_.entries();
    std::fill_n(entries.count_F, F, 0);
    const Number* const p = p_FB.const_data_ptr<Number>();
    const std::int64_t* const place = places.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < count; ++i) {
      if (!(p[place[i]] > 0)) continue;
      const std::int64_t f = place[i] / B, at = f * sizes_.row_stride + entries.count_F[f]++;
      entries.value_FB[at] = p[place[i]];
      entries.row_FB[at] = static_cast<std::int32_t>(place[i] % B);
    }
    find_block_begins(codes_);
  }
  num_open_F_.copy_(codes_.count_F).mul_(all_heads());
}

// The codes of the dead features, from p before the gates move it.
template <class Number>
void SparseStep<Number>::find_dead_codes(const StepRates& rates) {
  dead_codes_active_ = false;
  num_dead_ = 0;
  if (!uses_auxk() || rates.step <= config_.dead_window_steps) return;
  const at::Tensor dead_N = at::full({1}, rates.step, at::kLong)
                                .sub(last_fired_F_)
                                .gt(config_.dead_window_steps)
                                .nonzero()
                                .squeeze(1);
  num_dead_ = dead_N.size(0);
  if (num_dead_ == 0) return;
  const at::Tensor p_NB = codes_.value_FB.narrow(1, 0, sizes_.rows).index_select(0, dead_N) +
                          total_bias_F_.index_select(0, dead_N).unsqueeze(1);
  const at::Tensor chosen_QB = std::get<1>(p_NB.abs().topk(std::min(config_.auxk_k, num_dead_), 0));
  take_entries(p_NB.gather(0, chosen_QB),
               dead_N.index_select(0, chosen_QB.flatten()).view_as(chosen_QB), dead_codes_);
  dead_codes_active_ = true;
}

template <class Number>
kernels::DecodeArguments<Number> SparseStep<Number>::decode_arguments(CodeBuffers<Number>& codes,
                                                                      const at::Tensor& target_SBC,
                                                                      double scale) {
  return {.sizes = sizes_,
          .blocks = blocks_,
          .entries = codes.entries(),
          .gate = gated() && &codes == &codes_ ? Gate::PerHead : Gate::Shared,
          .norm_FK = data(norm_FK_),
          .threshold_F = data(threshold_F_),
          .decoder_KFD = data(decoder_.value),
          .decoder_bias_KD = data(decoder_bias_.value),
          .target_SBC = data(target_SBC),
          .error_SBC = data(codes.error_SBC),
          .scale = static_cast<Number>(scale),
          .squared_error_SN = squared_error_SN_.mutable_data_ptr<double>(),
          .column_sum_SNC = data(column_sum_SNC_),
          .decoded = decodes_whole_ && &codes == &codes_};
}

// The rows of a slab, (B, columns).
template <class Number>
at::Tensor SparseStep<Number>::error_of(const kernels::Slab& slab) const {
  return codes_.error_SBC.narrow(0, slab.offset(sizes_), sizes_.rows * slab.columns)
      .view({sizes_.rows, slab.columns});
}

template <class Number>
typename SparseStep<Number>::Tile& SparseStep<Number>::tile() {
  Tile& tile = tiles_[static_cast<std::size_t>(at::get_thread_num())];
  if (!tile.work_TB.defined()) {
    for (at::Tensor* t : {&tile.pre_TB, &tile.work_TB, &tile.pre_gradient_TB})
      *t = at::zeros({kTileFeatures, max_.row_stride}, dtype_);
    tile.along_T = at::zeros({kTileFeatures}, dtype_);
    tile.gradient_TD = at::zeros({kTileFeatures, max_.width}, dtype_);
    tile.encoder_gradient_T_KD = at::zeros({kTileFeatures, max_.heads * max_.width}, dtype_);
  }
  return tile;
}

// A tile's codes of one head, with their zeros: (features of the tile, B).
template <class Number>
at::Tensor SparseStep<Number>::write_dense_codes(const kernels::DecodeArguments<Number>& arguments,
                                                 Tile& tile, std::int64_t head, std::int64_t begin,
                                                 std::int64_t end) {
  kernels::dense_codes(arguments, head, data(tile.work_TB) - begin * sizes_.row_stride, begin, end);
  return tile.work_TB.narrow(0, 0, end - begin).narrow(1, 0, sizes_.rows);
}

// codes . W_D by whole products, a head to a thread.
template <class Number>
void SparseStep<Number>::decode_whole(const kernels::DecodeArguments<Number>& arguments) {
  const std::int64_t per_head = kernels::num_slabs(sizes_) / sizes_.heads;
  parallel(sizes_.heads, [&](std::int64_t k) {
    for (std::int64_t f = 0; f < features(); f += kTileFeatures) {
      const std::int64_t end = std::min(f + kTileFeatures, features());
      const at::Tensor code_TB = write_dense_codes(arguments, tile(), k, f, end);
      for (std::int64_t index = k * per_head; index < (k + 1) * per_head; ++index) {
        const kernels::Slab slab = kernels::slab_at(sizes_, index);
        at::Tensor error_BC = error_of(slab);
        at::addmm_out(error_BC, error_BC, code_TB.t(),
                      decoder_.value[k].narrow(0, f, end - f).narrow(1, slab.column, slab.columns),
                      f == 0 ? 0 : 1);
      }
    }
  });
}

// The scaled error of the codes against a target; returns the sum of its squares before scaling.
// Its column sums are the decoder bias's gradient, or are added to it.
template <class Number>
double SparseStep<Number>::run_decode(CodeBuffers<Number>& codes, const at::Tensor& target_SBC,
                                      double scale, bool adds_to_bias) {
  const CrosscoderSizes& s = sizes_;
  const std::int64_t S = kernels::num_slabs(s), N = blocks_.count;
  const auto arguments = decode_arguments(codes, target_SBC, scale);
  if (arguments.decoded) decode_whole(arguments);
  parallel(S * N, [&](std::int64_t unit) { kernels::decode(arguments, unit / N, unit % N); });

  Number* const bias_gradient = data(decoder_bias_gradient_KD_);
  const Number* const column_sum = data(column_sum_SNC_);
  for (std::int64_t index = 0; index < S; ++index) {
    const kernels::Slab slab = kernels::slab_at(s, index);
    for (std::int64_t c = 0; c < slab.columns; ++c) {
      Number sum = 0;
      for (std::int64_t n = 0; n < N; ++n)
        sum += column_sum[(index * N + n) * kernels::kSlabColumns + c];
      Number& out = bias_gradient[slab.head * s.width + slab.column + c];
      out = adds_to_bias ? out + sum : sum;
    }
  }
  const double* const squares = squared_error_SN_.const_data_ptr<double>();
  return share_.ranks->sum_of(std::accumulate(squares, squares + S * N, 0.0));
}

template <class Number>
LossTerms SparseStep<Number>::forward(const StepRates& rates) {
  const double M = rows_and_heads();
  StepStopwatch watch(device_);
  encode();
  watch.lap(times_.encode);
  find_dead_codes(rates);
  if (gated())
    run_gates();
  else
    select_entries();
  watch.lap(times_.gates);

  LossTerms terms;
  const std::int64_t* const num_open = num_open_F_.const_data_ptr<std::int64_t>();
  const std::int64_t open = std::accumulate(num_open, num_open + features(), std::int64_t{0});
  terms.l0 = static_cast<double>(open) / M;
  const double dense_l0 = dense_share_ * static_cast<double>(features());
  differentiates_whole_ = gated() && !dead_codes_active_ && terms.l0 > dense_l0;
  decodes_whole_ = gated() && !dead_codes_active_ && terms.l0 > dense_l0 / 2;
  terms.sum_squared_error = run_decode(codes_, x_SBC_, 2 / M, false);
  terms.l_rec = terms.sum_squared_error / M;
  if (dead_codes_active_) {
    at::mul_out(dead_target_SBC_, codes_.error_SBC, at::scalar_tensor(-M / 2, dtype_));
    terms.l_aux =
        run_decode(dead_codes_, dead_target_SBC_, 2 * config_.auxk_coefficient / M, true) / M;
  }
  const double* const score_sum = score_sum_F_.const_data_ptr<double>();
  std::int64_t silent = 0;
  for (std::int64_t f = 0; f < features(); ++f) {
    silent += num_open[f] == 0;
    if (!gated()) continue;
    const double mean = score_sum[f] / M;
    mean_score_F_[static_cast<std::size_t>(f)] = mean;
    terms.l_s += mean * (1 + mean / config_.frequency_scale);
  }
  terms.num_silent = uses_auxk() ? num_dead_ : silent;
  terms.loss =
      terms.l_rec + rates.l1_coefficient * terms.l_s + config_.auxk_coefficient * terms.l_aux;
  watch.lap(times_.decode);
  return terms;
}

template <class Number>
void SparseStep<Number>::run_band() {
  const kernels::BandArguments<Number> arguments{
      .sizes = sizes_,
      .positive_WF = words(positive_WF_),
      .window_KWF = any_far_ ? words(window_KWF_) : nullptr,
      .norm_FK = data(norm_FK_),
      .decoder_KFD = data(decoder_.value),
      .error_SBC = data(codes_.error_SBC),
      .band_UF = data(band_UF_)};
  const std::int64_t strips = sizes_.heads * kernels::strips_per_head<Number>(sizes_);
  at::parallel_for(0, strips, 1, [&](std::int64_t begin, std::int64_t end) {
    Number* const scratch = data(scratch_[static_cast<std::size_t>(at::get_thread_num())]);
    for (std::int64_t u = begin; u < end; ++u) kernels::band(arguments, u, scratch);
  });
  double* const near = near_F_.mutable_data_ptr<double>();
  const Number* const part = data(band_UF_);
  at::parallel_for(0, features(), 512, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = 0; u < strips; ++u)
      for (std::int64_t f = begin; f < end; ++f)
        near[f] += static_cast<double>(part[u * features() + f]);
  });
}

template <class Number>
kernels::Updated<Number> SparseStep<Number>::updated(const Slot& slot, bool write_gradients) const {
  if (write_gradients) return {.value = data(slot.value), .gradient = data(slot.gradient)};
  return {.value = data(slot.value),
          .exp_avg = data(slot.exp_avg),
          .exp_avg_sq = data(slot.exp_avg_sq),
          .bf16 = &slot == &encoder_ && encoder_bf16_.defined()
                      ? static_cast<std::uint16_t*>(encoder_bf16_.mutable_data_ptr())
                      : nullptr};
}

// All gradients. Those of the two weights are used where they arise, or written out.
template <class Number>
void SparseStep<Number>::run_backward(const StepRates& rates, bool write_gradients) {
  const CrosscoderSizes& s = sizes_;
  const double M = rows_and_heads();
  StepStopwatch watch(device_);
  near_F_.zero_();
  if (gated()) {
    Number* const pull = data(pull_F_);
    for (std::int64_t f = 0; f < features(); ++f)
      pull[f] = static_cast<Number>(
          rates.l1_coefficient / M * config_.tanh_stretch_coefficient *
          (1 + 2 * mean_score_F_[static_cast<std::size_t>(f)] / config_.frequency_scale));
    if (!differentiates_whole_) run_band();
  }
  watch.lap(times_.band);

  const kernels::Source<Number> sources[2] = {
      {.entries = codes_.entries(),
       .gate = gated() ? Gate::PerHead : Gate::Shared,
       .error_SBC = data(codes_.error_SBC),
       .pre_gradient_FB = data(codes_.pre_gradient_FB)},
      dead_codes_active_
          ? kernels::Source<Number>{.entries = dead_codes_.entries(),
                                    .gate = Gate::Shared,
                                    .error_SBC = data(dead_codes_.error_SBC),
                                    .pre_gradient_FB = data(dead_codes_.pre_gradient_FB)}
          : kernels::Source<Number>{}};
  const kernels::BackwardArguments<Number> arguments{
      .sizes = s,
      .sources = sources,
      .num_sources = dead_codes_active_ ? 2 : 1,
      .norm_FK = data(norm_FK_),
      .threshold_F = data(threshold_F_),
      .pull_F = gated() ? data(pull_F_) : nullptr,
      .stretch = static_cast<Number>(config_.tanh_stretch_coefficient),
      .half_window = static_cast<Number>(kThresholdWindow / 2),
      .num_closed_FK = num_closed_FK_.const_data_ptr<std::int32_t>(),
      .x_SBC = data(x_SBC_),
      .decoder_KFD = updated(decoder_, write_gradients),
      .encoder_FKD = updated(encoder_, write_gradients),
      .rates = weight_rates(rates.lr),
      .new_norm_FK = data(new_norm_FK_),
      .near_F = near_F_.mutable_data_ptr<double>(),
      .bias_gradient_F = data(bias_gradient_F_)};
  if (differentiates_whole_)
    backward_whole(arguments);
  else
    backward_entries(arguments);
  watch.lap(times_.backward);

  if (gated()) {
    share_.ranks->sum(near_F_);
    const double* const near = near_F_.const_data_ptr<double>();
    const Number* const theta = data(threshold_F_);
    Number* const gradient = data(threshold_gradient_F_);
    for (std::int64_t f = 0; f < features(); ++f)
      gradient[f] = static_cast<Number>(-static_cast<double>(theta[f]) * theta[f] /
                                        kThresholdWindow * near[f]);
  }
}

template <class Number>
void SparseStep<Number>::backward_entries(const kernels::BackwardArguments<Number>& arguments) {
  // A range of features per thread, of equal work: the update of the weights costs about as much as
  // `kEntries` entries.
  constexpr std::int64_t kEntries = 24;
  const std::int32_t* const count = codes_.entries().count_F;
  std::int64_t total = 0;
  for (std::int64_t f = 0; f < features(); ++f) total += count[f] + kEntries;
  const std::int64_t ranges = at::get_num_threads();
  std::vector<std::int64_t> begin{0};
  std::int64_t work = 0;
  for (std::int64_t f = 0; f < features(); ++f) {
    work += count[f] + kEntries;
    if (work * ranges >= total * static_cast<std::int64_t>(begin.size()) &&
        static_cast<std::int64_t>(begin.size()) < ranges)
      begin.push_back(f + 1);
  }
  begin.push_back(features());
  const auto over_ranges = [&](const auto& task) {
    parallel(static_cast<std::int64_t>(begin.size()) - 1, [&](std::int64_t range) {
      const auto r = static_cast<std::size_t>(range);
      task(begin[r], begin[r + 1], data(scratch_[static_cast<std::size_t>(at::get_thread_num())]));
    });
  };
  over_ranges([&](std::int64_t from, std::int64_t to, Number* scratch) {
    kernels::backward_decoder(arguments, 0, kernels::num_slabs(sizes_), from, to, scratch);
  });
  sum_pre_gradients();
  over_ranges([&](std::int64_t from, std::int64_t to, Number* scratch) {
    kernels::backward_encoder(arguments, from, to, scratch);
  });
}

// dp of the entries, which are the same on every rank, over the heads of all of them.
template <class Number>
void SparseStep<Number>::sum_pre_gradients() {
  if (share_.ranks->size() == 1) return;
  for (CodeBuffers<Number>* codes : {&codes_, dead_codes_active_ ? &dead_codes_ : nullptr}) {
    if (!codes) continue;
    const std::int32_t* const count = codes->entries().count_F;
    Number* const by_feature = data(codes->pre_gradient_FB);
    const at::Tensor packed =
        at::empty({std::accumulate(count, count + features(), std::int64_t{0})}, dtype_);
    Number* at = data(packed);
    for (std::int64_t f = 0; f < features(); at += count[f], ++f)
      std::copy_n(by_feature + f * sizes_.row_stride, count[f], at);
    share_.ranks->sum(packed);
    at = data(packed);
    for (std::int64_t f = 0; f < features(); at += count[f], ++f)
      std::copy_n(at, count[f], by_feature + f * sizes_.row_stride);
  }
}

template <class Number>
void SparseStep<Number>::backward_whole(const kernels::BackwardArguments<Number>& arguments) {
  const auto over_tiles = [&](const auto& task) {
    parallel((features() + tile_features_ - 1) / tile_features_, [&](std::int64_t index) {
      const std::int64_t begin = index * tile_features_;
      task(tile(), begin, std::min(begin + tile_features_, features()));
    });
  };
  if (!packed_error_.defined())
    packed_error_ = tensor::large_zeros(
        {max_.heads * kernels::num_panels(max_) * max_.width * kernels::kPanelRows}, dtype_);
  const std::int64_t panels = kernels::num_panels(sizes_);
  parallel(sizes_.heads * panels, [&](std::int64_t i) {
    kernels::pack_error(sizes_, data(codes_.error_SBC), i / panels, i % panels,
                        packed_panel(i / panels, i % panels));
  });
  over_tiles([&](Tile& tile, std::int64_t begin, std::int64_t end) {
    backward_decoder_tile(arguments, tile, begin, end);
  });
  sum_pre_gradients();
  over_tiles([&](Tile& tile, std::int64_t begin, std::int64_t end) {
    backward_encoder_tile(arguments, tile, begin, end);
  });
}

// A tile's (T, B) times the rows of a head, (B, d), which lie by slabs. `out_TD` has the columns of
// that head, or of all.
template <class Number>
void SparseStep<Number>::multiply_slabs(const at::Tensor& left_TB, std::int64_t count,
                                        const at::Tensor& rows_SBC, std::int64_t head,
                                        const at::Tensor& out_TD) const {
  const CrosscoderSizes& s = sizes_;
  const std::int64_t per_head = kernels::num_slabs(s) / s.heads;
  const std::int64_t before = out_TD.size(1) == s.width ? 0 : head * s.width;
  for (std::int64_t index = head * per_head; index < (head + 1) * per_head; ++index) {
    const kernels::Slab slab = kernels::slab_at(s, index);
    kernels::multiply<Number>({.rows = count,
                               .columns = slab.columns,
                               .depth = s.rows,
                               .a = data(left_TB),
                               .a_stride = s.row_stride,
                               .b = data(rows_SBC) + slab.offset(s),
                               .b_stride = slab.columns,
                               .c = data(out_TD) + before + slab.column,
                               .c_stride = out_TD.size(1)});
  }
}

template <class Number>
Number* SparseStep<Number>::packed_panel(std::int64_t head, std::int64_t panel) const {
  return data(packed_error_) +
         (head * kernels::num_panels(sizes_) + panel) * sizes_.width * kernels::kPanelRows;
}

template <class Number>
void SparseStep<Number>::backward_decoder_tile(const kernels::BackwardArguments<Number>& arguments,
                                               Tile& tile, std::int64_t begin, std::int64_t end) {
  const CrosscoderSizes& s = sizes_;
  Number* const scratch = data(scratch_[static_cast<std::size_t>(at::get_thread_num())]);
  const auto entries = codes_.entries();
  // The kernels count features from the first of all.
  const auto from_first = [&](const at::Tensor& of_tile) {
    return data(of_tile) - begin * (of_tile.dim() > 1 ? of_tile.size(1) : 1);
  };
  kernels::spread(s, entries, entries.value_FB, from_first(tile.pre_TB), begin, end);
  tile.pre_gradient_TB.narrow(0, 0, end - begin).zero_();
  kernels::WholeArguments<Number> whole{.sizes = s,
                                        .norm_FK = arguments.norm_FK,
                                        .threshold_F = arguments.threshold_F,
                                        .pull_F = arguments.pull_F,
                                        .stretch = arguments.stretch,
                                        .half_window = arguments.half_window,
                                        .bits_WF = nullptr,
                                        .pre_FB = from_first(tile.pre_TB),
                                        .product_FB = from_first(tile.work_TB),
                                        .pre_gradient_FB = from_first(tile.pre_gradient_TB),
                                        .along_F = from_first(tile.along_T),
                                        .near_F = arguments.near_F,
                                        .gradient_FD = from_first(tile.gradient_TD),
                                        .decoder_KFD = arguments.decoder_KFD,
                                        .rates = arguments.rates,
                                        .new_norm_FK = arguments.new_norm_FK};
  for (std::int64_t k = 0; k < s.heads; ++k) {
    whole.head = k;
    whole.bits_WF =
        any_far_ ? words(window_KWF_) + kernels::bits_offset(s, k) : words(positive_WF_);
    for (std::int64_t panel = 0; panel < kernels::num_panels(s); ++panel) {
      const std::int64_t first = panel * kernels::kPanelRows;
      kernels::multiply<Number>({.rows = end - begin,
                                 .columns = std::min(kernels::kPanelRows, s.row_stride - first),
                                 .depth = s.width,
                                 .a = data(decoder_.value) + (k * s.features + begin) * s.width,
                                 .a_stride = s.width,
                                 .b = packed_panel(k, panel),
                                 .b_stride = kernels::kPanelRows,
                                 .c = data(tile.work_TB) + first,
                                 .c_stride = s.row_stride});
    }
    kernels::whole_gates(whole, begin, end);
    multiply_slabs(tile.work_TB, end - begin, codes_.error_SBC, k, tile.gradient_TD);
    kernels::whole_decoder(whole, begin, end, scratch);
  }
  for (std::int64_t f = begin; f < end; ++f) {
    const Number* const dp_B = data(tile.pre_gradient_TB) + (f - begin) * s.row_stride;
    for (std::int64_t i = f * s.row_stride; i < f * s.row_stride + entries.count_F[f]; ++i)
      arguments.sources[0].pre_gradient_FB[i] = dp_B[entries.row_FB[i]];
  }
}

template <class Number>
void SparseStep<Number>::backward_encoder_tile(const kernels::BackwardArguments<Number>& arguments,
                                               Tile& tile, std::int64_t begin, std::int64_t end) {
  const CrosscoderSizes& s = sizes_;
  const auto entries = codes_.entries();
  const Number* const pre_gradient_FB = arguments.sources[0].pre_gradient_FB;
  kernels::spread(s, entries, pre_gradient_FB, data(tile.work_TB) - begin * s.row_stride, begin,
                  end);
  for (std::int64_t f = begin; f < end; ++f) {
    const Number* const dp = pre_gradient_FB + f * s.row_stride;
    arguments.bias_gradient_F[f] = std::accumulate(dp, dp + entries.count_F[f], Number(0));
  }
  const std::int64_t KD = s.heads * s.width;
  const at::Tensor& gradient = tile.encoder_gradient_T_KD;
  for (std::int64_t k = 0; k < s.heads; ++k)
    multiply_slabs(tile.work_TB, end - begin, x_SBC_, k, gradient);
  kernels::adam(arguments.encoder_FKD, arguments.rates, data(gradient) - begin * KD, begin * KD,
                end * KD);
}

template <class Number>
LossTerms SparseStep<Number>::update(const StepRates& rates) {
  const LossTerms terms = forward(rates);
  if (!std::isfinite(terms.loss)) return terms;
  run_backward(rates, sparse_adam_ != nullptr);
  StepStopwatch watch(device_);
  if (sparse_adam_) {
    write_small_gradients();
    sparse_adam_->step({encoder_.gradient, bias_.gradient, decoder_.gradient,
                        decoder_bias_.gradient, log_threshold_.gradient},
                       {rates.lr, rates.lr, rates.lr, rates.lr, rates.threshold_lr});
    refresh_derived();
  } else {
    const auto adam = [&](const Slot& slot, const at::Tensor& gradient, double lr) {
      kernels::adam(updated(slot, false), adam_rates(lr), data(gradient), 0, slot.value.numel());
    };
    adam(bias_, bias_gradient_F_, rates.lr);
    adam(decoder_bias_, decoder_bias_gradient_KD_, rates.lr);
    if (gated()) adam(log_threshold_, threshold_gradient_F_, rates.threshold_lr);
    std::swap(norm_FK_, new_norm_FK_);
    find_largest_norms();
  }
  num_updates_.add_(1);
  if (uses_auxk()) last_fired_F_.masked_fill_(num_open_F_.gt(0), rates.step);
  watch.lap(times_.small);
  return terms;
}

template <class Number>
LossTerms SparseStep<Number>::gradients(const StepRates& rates, CrosscoderParameters& out) {
  make_gradient_buffers();
  const LossTerms terms = forward(rates);
  run_backward(rates, true);
  write_small_gradients();
  out = released(&Slot::gradient);
  return terms;
}

template <class Number>
double SparseStep<Number>::batch_deviation() const {
  const CrosscoderSizes& s = sizes_;
  const at::Tensor x64 = x_B_KD_.narrow(0, 0, s.rows)
                             .view({s.rows, s.heads, s.width})
                             .narrow(2, 0, width_)
                             .to(at::kDouble);
  const double mean = share_.ranks->sum_of(x64.sum().item().toDouble()) /
                      (rows_and_heads() * static_cast<double>(width_));
  return share_.ranks->sum_of((x64 - mean).square_().sum().item().toDouble());
}

class Joint final : public JointSteps {
 public:
  using Step = SparseStep<float>;

  // The encoders move into one tensor, as do the pre-activations; the batch is shared.
  explicit Joint(const std::vector<Step*>& steps) : steps_(steps) {
    std::int64_t features = 0;
    for (const Step* step : steps) features += step->features();
    const CrosscoderSizes& s = steps[0]->max_;
    encoder_ = tensor::large_zeros({features, s.heads * s.width}, at::kFloat);
    p_ = tensor::large_zeros({features, s.row_stride}, at::kFloat);
    std::int64_t begin = 0;
    for (Step* step : steps) {
      const at::Tensor its = encoder_.narrow(0, begin, step->features());
      its.copy_(step->encoder_.value);
      step->encoder_.value.set_(its);  // in place: sparse_adam holds the same tensor
      step->codes_.value_FB = p_.narrow(0, begin, step->features());
      step->x_B_KD_ = steps[0]->x_B_KD_;
      step->x_SBC_ = steps[0]->x_SBC_;
      begin += step->features();
    }
  }

  void load(const at::Tensor& x_VKD, std::span<const std::int64_t> rows,
            const BatchNoise& noise) override {
    steps_[0]->load(x_VKD, rows, noise);
    const auto count = static_cast<std::int64_t>(rows.size());
    at::Tensor p = p_.narrow(1, 0, count);
    at::mm_out(p, encoder_, steps_[0]->x_B_KD_.narrow(0, 0, count).t());
    for (Step* step : steps_) {
      step->set_batch_rows(count);
      step->encoded_ = true;
    }
  }

 private:
  std::vector<Step*> steps_;
  at::Tensor encoder_, p_;
};

}  // namespace

std::unique_ptr<JointSteps> join_steps(const std::vector<CrosscoderStep*>& given) {
  std::vector<SparseStep<float>*> steps;
  for (CrosscoderStep* step : given) {
    steps.push_back(dynamic_cast<SparseStep<float>*>(step));
    if (!steps.back() || !steps.back()->can_join(*steps[0])) return nullptr;
  }
  return std::make_unique<Joint>(steps);
}

std::string CrosscoderStep::first_not_finite() const {
  for (const auto& [name, t] : state())
    if (t.is_floating_point() && !t.isfinite().all().item<bool>()) return name;
  return "";
}

std::unique_ptr<CrosscoderStep> make_sparse_step(const CrosscoderConfig& config,
                                                 const Activation& activation,
                                                 const CrosscoderParameters& start,
                                                 std::int64_t max_rows, double dense_share,
                                                 HeadShare share) {
  TORCH_INTERNAL_ASSERT(activation.kind == ActivationKind::JumpRelu ||
                        activation.kind == ActivationKind::TopK ||
                        activation.kind == ActivationKind::BatchTopK);
  if (start.decoder_KFD.scalar_type() == at::kDouble)
    return std::make_unique<SparseStep<double>>(config, activation, start, max_rows, dense_share,
                                                share);
  return std::make_unique<SparseStep<float>>(config, activation, start, max_rows, dense_share,
                                             share);
}

}  // namespace cresco::dictionaries
