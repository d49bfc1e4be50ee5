// The training step of a crosscoder by the structure of the problem: what is sparse is computed for
// the entries that are there, nothing of the size (rows, heads, features) ever exists.
//
// Letters: B rows of the batch, K heads, F features, d width (padded by zero columns to a multiple
// of 64 bytes), S slabs. A slab is a piece of one head's columns, at most kSlabColumns wide: what
// one slab needs of all rows fits a core's second-level cache. x and the error are stored slab
// after slab, (S, B, columns). The decoder is (K, F, d), the encoder (F, K d), so that both have a
// feature's numbers of a slab side by side.
//
// With p[f,b] the pre-activation, n[f,k] = |W_D[k,f]| and theta[f] the threshold, gate (b,k,f) is
// open where p n > theta: one value, gates nested by the norms. An entry is a (feature, row) with a
// gate open for some head; a feature's entries stand at the front of its row of `p_FB`, ascending
// in b.
//
// The steps of one update, each over a range that a caller shares among threads; no result depends
// on how ranges are cut:
//   gates     p, entries, bits of rows, sums of the sparsity scores     by features
//   decode    error e = 2/(B K) (r - x), its squares and column sums    by slab and block of rows
//   band      sum over rows near the threshold of e . W_D/n             by strips of slabs
//   backward  all gradients, and Adam where they arise                  by features
//
// With G = (lambda/(B K)) (1 + 2 m/alpha), m[f] the mean of s = tanh(c p n) over rows and heads,
// and g = e . W_D + G c n (1 - s^2), the threshold's surrogate gradient sums g/n over all (b,k)
// with p > 0 and |p n - theta| < w/2, open or not. `band` gives the sum of e . W_D/n by one product
// with a matrix of bits, which takes a quarter of the additions by tables of sums of four rows.
// While theta < w/2 a bit is p > 0, the same for all heads, and `backward` takes out again what
// lies above the window. Where theta >= w/2 most rows lie below the window: such a feature has bits
// for each head, which say what is in it.
//
// Number is float or double (for tests). Nothing here allocates, throws or starts threads.
#pragma once

#include <cstdint>

namespace cresco::kernels {

inline constexpr std::int64_t kVectorBytes = 64;
inline constexpr std::int64_t kSlabColumns = 256;
template <class Number>
inline constexpr std::int64_t kLanes = kVectorBytes / sizeof(Number);

struct CrosscoderSizes {
  std::int64_t rows = 0;                            // B
  std::int64_t row_stride = 0;                      // of (F, B) arrays: a multiple of 32
  std::int64_t heads = 0, width = 0, features = 0;  // K, padded d, F
};

// Of arrays of bits, between the words of a feature: F, and a cache line more, so that they don't
// fall into the same few places of a cache where F is a power of two.
inline std::int64_t bits_stride(const CrosscoderSizes& sizes) { return sizes.features + 16; }
inline std::int64_t num_words(const CrosscoderSizes& sizes) { return (sizes.rows + 31) / 32; }
// Where the words of head k begin, in an array of bits for each head.
inline std::int64_t bits_offset(const CrosscoderSizes& sizes, std::int64_t k) {
  return k * num_words(sizes) * bits_stride(sizes);
}

// A head's columns [column, column + columns); its rows of x and error begin at `offset`.
struct Slab {
  std::int64_t head = 0, column = 0, columns = 0;
  std::int64_t offset(const CrosscoderSizes& sizes) const {
    return (head * sizes.width + column) * sizes.rows;
  }
};
inline std::int64_t num_slabs(const CrosscoderSizes& sizes) {
  return sizes.heads * ((sizes.width + kSlabColumns - 1) / kSlabColumns);
}
inline Slab slab_at(const CrosscoderSizes& sizes, std::int64_t index) {
  const std::int64_t per_head = (sizes.width + kSlabColumns - 1) / kSlabColumns;
  const std::int64_t column = index % per_head * kSlabColumns;
  const std::int64_t rest = sizes.width - column;
  return {index / per_head, column, rest < kSlabColumns ? rest : kSlabColumns};
}

// Which entries a code has at head k: those whose gate is open, or all of them.
enum class Gate { PerHead, Shared };

// Entries by feature: value and row of entry i of feature f at f * row_stride + i.
template <class Number>
struct Entries {
  Number* value_FB = nullptr;
  std::int32_t* row_FB = nullptr;
  std::int32_t* count_F = nullptr;
  std::int32_t* begin_FN = nullptr;  // of each block of rows, (F, num_blocks + 1)
};

struct RowBlocks {
  std::int64_t rows = 0;  // of a block; the last may have fewer
  std::int64_t count = 0;
};

// What `gates` reads and writes.
template <class Number>
struct GatesArguments {
  CrosscoderSizes sizes;
  RowBlocks blocks;
  Entries<Number> entries;  // value_FB comes in as p without bias, (F, B)
  const Number* bias_F;     // added to p
  const Number* norm_FK;
  const Number* threshold_F;
  const Number* largest_norm_F;  // where there are more heads than these; null: of norm_FK
  Number stretch, half_window;
  std::uint32_t* positive_WF;   // (num_words, bits_stride): bit i of word w is row 32 w + i
  std::uint32_t* window_KWF;    // for each head what `band` reads, as many words; null while all
                                // theta < w/2
  std::int32_t* num_closed_FK;  // rows in the window whose gate is closed
  double* score_sum_F;          // of tanh(stretch p n) over open gates
  std::int64_t* num_open_F;     // open gates over rows and heads
};
template <class Number>
void gates(const GatesArguments<Number>& arguments, std::int64_t feature_begin,
           std::int64_t feature_end);

// Entries are given (TopK and its like): only begin_FN is to be found.
template <class Number>
void find_blocks(const CrosscoderSizes& sizes, const RowBlocks& blocks,
                 const Entries<Number>& entries, std::int64_t feature_begin,
                 std::int64_t feature_end);

template <class Number>
struct DecodeArguments {
  CrosscoderSizes sizes;
  RowBlocks blocks;
  Entries<Number> entries;
  Gate gate;
  const Number* norm_FK;
  const Number* threshold_F;
  const Number* decoder_KFD;
  const Number* decoder_bias_KD;
  const Number* target_SBC;  // x
  Number* error_SBC;         // scale (r - target)
  Number scale;
  double* squared_error_SN;  // of r - target, per slab and block of rows
  Number* column_sum_SNC;    // of the error, (S, N, kSlabColumns)
  bool decoded;              // error_SBC comes in as codes . W_D already
};
template <class Number>
void decode(const DecodeArguments<Number>& arguments, std::int64_t slab, std::int64_t block);

// Where many gates are open, whole products are faster than entries. Entries with zeros between
// them, (F, B): of value_FB, which may be another array than their own.
template <class Number>
void spread(const CrosscoderSizes& sizes, const Entries<Number>& entries, const Number* value_FB,
            Number* out_FB, std::int64_t feature_begin, std::int64_t feature_end);
// One head's codes, (F, B).
template <class Number>
void dense_codes(const DecodeArguments<Number>& arguments, std::int64_t head, Number* code_FB,
                 std::int64_t feature_begin, std::int64_t feature_end);

template <class Number>
struct BandArguments {
  CrosscoderSizes sizes;
  const std::uint32_t* positive_WF;
  const std::uint32_t* window_KWF;  // in place of positive_WF where it is not null
  const Number* norm_FK;
  const Number* decoder_KFD;
  const Number* error_SBC;
  Number* band_UF;  // per strip: sum over the rows of the bits of e . W_D/n; 0 where n is 0
};
// A strip is a piece of a slab, at most kStripColumns wide: its tables fit the first-level cache.
template <class Number>
inline constexpr std::int64_t kStripColumns = 4 * kLanes<Number>;
template <class Number>
struct Strip {
  std::int64_t slab = 0, column = 0, columns = 0;  // the column within the slab
};
template <class Number>
inline std::int64_t strips_per_head(const CrosscoderSizes& sizes) {
  return (sizes.width + kStripColumns<Number> - 1) / kStripColumns<Number>;
}
template <class Number>
inline Strip<Number> strip_at(const CrosscoderSizes& sizes, std::int64_t index) {
  constexpr std::int64_t per_slab = kSlabColumns / kStripColumns<Number>;
  const std::int64_t head = index / strips_per_head<Number>(sizes);
  const std::int64_t in_head = index % strips_per_head<Number>(sizes);
  const std::int64_t slab = head * (num_slabs(sizes) / sizes.heads) + in_head / per_slab;
  const std::int64_t column = in_head % per_slab * kStripColumns<Number>;
  const std::int64_t rest = slab_at(sizes, slab).columns - column;
  return {slab, column, rest < kStripColumns<Number> ? rest : kStripColumns<Number>};
}
// `sums_FC` is room for (min(F, kBandFeatures), kStripColumns) numbers.
inline constexpr std::int64_t kBandFeatures = 4096;
template <class Number>
void band(const BandArguments<Number>& arguments, std::int64_t strip, Number* sums_FC);

// Adam as PyTorch computes it; with `decay` AdamW: the value is multiplied by it before its update.
struct AdamRates {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double step_size = 0;        // lr / (1 - beta1^t)
  double root_correction = 1;  // sqrt(1 - beta2^t)
  double decay = 1;            // 1 - lr weight_decay
};
// One tensor that is updated. With `gradient` it is left as it is and the gradient is written.
template <class Number>
struct Updated {
  Number* value = nullptr;
  Number* exp_avg = nullptr;
  Number* exp_avg_sq = nullptr;
  Number* gradient = nullptr;
  std::uint16_t* bf16 = nullptr;  // a copy of the value, rounded to bfloat16, when given
};
template <class Number>
void adam(const Updated<Number>& tensor, const AdamRates& rates, const Number* gradient,
          std::int64_t begin, std::int64_t end);

// One sum that the codes of some entries take part in: the reconstruction, or that of the dead
// features' codes (AuxK), each with its own error.
template <class Number>
struct Source {
  Entries<Number> entries;
  Gate gate = Gate::PerHead;
  const Number* error_SBC = nullptr;
  Number* pre_gradient_FB = nullptr;  // of each entry's p
};

template <class Number>
struct BackwardArguments {
  CrosscoderSizes sizes;
  const Source<Number>* sources;  // sources[0] may have gates, others have none
  int num_sources;
  const Number* norm_FK;
  const Number* threshold_F;
  const Number* pull_F;  // G c; null: no sparsity term
  Number stretch, half_window;
  const std::int32_t* num_closed_FK;
  const Number* x_SBC;
  Updated<Number> decoder_KFD, encoder_FKD;
  AdamRates rates;
  Number* new_norm_FK;  // of the decoder rows after the update; with gradients it is left alone
  double* near_F;       // added to: sum of g/n near the threshold, but for `band`
  Number* bias_gradient_F;
};
// Gradients on the codes and of the decoder, for features [begin, end) and slabs [begin, end);
// slabs come in order. `scratch` is room for backward_scratch(sizes) numbers.
template <class Number>
void backward_decoder(const BackwardArguments<Number>& arguments, std::int64_t slab_begin,
                      std::int64_t slab_end, std::int64_t feature_begin, std::int64_t feature_end,
                      Number* scratch);
// c = a b, or added to it, of matrices that a core's second-level cache holds: a (rows, depth), b
// (depth, columns), c (rows, columns), columns a multiple of kLanes. Every number of c is a sum in
// order of depth.
template <class Number>
struct Product {
  std::int64_t rows, columns, depth;
  const Number* a;
  std::int64_t a_stride;
  const Number* b;
  std::int64_t b_stride;
  Number* c;
  std::int64_t c_stride;
  bool adds = false;
};
template <class Number>
void multiply(const Product<Number>& product);
// Rows of the error of one head as columns, kPanelRows of them side by side: panel p is (width,
// kPanelRows), zeros for rows that are not there.
inline constexpr std::int64_t kPanelRows = 64;
inline std::int64_t num_panels(const CrosscoderSizes& sizes) {
  return (sizes.rows + kPanelRows - 1) / kPanelRows;
}
template <class Number>
void pack_error(const CrosscoderSizes& sizes, const Number* error_SBC, std::int64_t head,
                std::int64_t panel, Number* packed);

// The same of one head by whole products, which a caller makes: e . W_D before `whole_gates`,
// code^T e before `whole_decoder`. `band` is not needed. No AuxK.
template <class Number>
struct WholeArguments {
  CrosscoderSizes sizes;
  std::int64_t head;
  const Number* norm_FK;
  const Number* threshold_F;
  const Number* pull_F;
  Number stretch, half_window;
  const std::uint32_t* bits_WF;  // of this head, as `band` would read them
  const Number* pre_FB;          // entries' p, with zeros
  Number* product_FB;            // e . W_D comes in, codes go out
  Number* pre_gradient_FB;       // dp with zeros; added to
  Number* along_F;  // what W_D times itself adds to its gradient: G c/n sum of a (1 - s^2)
  double* near_F;   // added to
  const Number* gradient_FD;  // code^T e
  Updated<Number> decoder_KFD;
  AdamRates rates;
  Number* new_norm_FK;
};
template <class Number>
void whole_gates(const WholeArguments<Number>& arguments, std::int64_t feature_begin,
                 std::int64_t feature_end);
template <class Number>
void whole_decoder(const WholeArguments<Number>& arguments, std::int64_t feature_begin,
                   std::int64_t feature_end, Number* scratch);

// Gradients of the encoder and its bias, from pre_gradient_FB.
template <class Number>
void backward_encoder(const BackwardArguments<Number>& arguments, std::int64_t feature_begin,
                      std::int64_t feature_end, Number* scratch);
inline std::int64_t backward_scratch(const CrosscoderSizes& sizes) {
  return 4 * sizes.row_stride + 2 * kSlabColumns;
}

// Euclidean norms of decoder rows, as backward leaves them after an update: bit for bit the same.
template <class Number>
void decoder_norms(const CrosscoderSizes& sizes, const Number* decoder_KFD, Number* norm_FK,
                   std::int64_t feature_begin, std::int64_t feature_end);

}  // namespace cresco::kernels
