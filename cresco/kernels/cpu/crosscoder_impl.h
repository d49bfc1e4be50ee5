// The kernels of crosscoder.h, compiled once for each instruction set: CRESCO_ISA is its namespace.
#include "cresco/kernels/cpu/crosscoder_table.h"
#include "cresco/kernels/crosscoder.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace cresco::kernels::CRESCO_ISA {
namespace {

#include "cresco/kernels/cpu/vectors.h"

// As many vectors of a row as are kept in registers at once.
#ifdef __AVX512F__
constexpr int kMostVectors = 16;
#else
constexpr int kMostVectors = 4;
#endif

// Calls task.template operator()<N>(column) for pieces of N vectors that make up `columns`.
template <class Number, class Task>
inline void over_pieces(std::int64_t columns, const Task& task) {
  constexpr std::int64_t lanes = kLanes<Number>;
  std::int64_t column = 0, left = columns / lanes;
  const auto take = [&]<int N>() {
    if constexpr (N <= kMostVectors) {
      while (left >= N) {
        task.template operator()<N>(column);
        column += N * lanes;
        left -= N;
      }
    }
  };
  take.template operator()<16>();
  take.template operator()<8>();
  take.template operator()<4>();
  take.template operator()<2>();
  take.template operator()<1>();
}

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Bit i says whether p[i] > 0, for `rows` of 32.
inline std::uint32_t positive_bits(const float* p, std::int64_t rows) {
  const std::uint32_t valid = rows >= 32 ? ~0u : (1u << rows) - 1;
#ifdef __AVX512F__
  const __m512 zero = _mm512_setzero_ps();
  const std::uint32_t low = _mm512_cmp_ps_mask(_mm512_loadu_ps(p), zero, _CMP_GT_OQ);
  const std::uint32_t high = _mm512_cmp_ps_mask(_mm512_loadu_ps(p + 16), zero, _CMP_GT_OQ);
  return (low | high << 16) & valid;
#else
  std::uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<std::uint32_t>(p[i] > 0) << i;
  return bits & valid;
#endif
}
inline std::uint32_t positive_bits(const double* p, std::int64_t rows) {
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < smaller(rows, 32); ++i)
    bits |= static_cast<std::uint32_t>(p[i] > 0) << i;
  return bits;
}

// Which of 32 rows lie in a feature's window, u = p norm > 0 and |u - theta| < half, and which of
// those have their gate closed.
struct WindowBits {
  std::uint32_t all = 0, closed = 0;
};
template <class Number>
inline WindowBits window_bits(const Number* p, std::int64_t rows, Number norm, Number theta,
                              Number half) {
  WindowBits bits;
#ifdef __AVX512F__
  if constexpr (sizeof(Number) == 4) {
    const __m512 norms = _mm512_set1_ps(norm), thetas = _mm512_set1_ps(theta),
                 halves = _mm512_set1_ps(half);
    for (int i = 0; i < 32; i += 16) {
      const __m512 u = _mm512_mul_ps(_mm512_loadu_ps(p + i), norms);
      __mmask16 all = _mm512_cmp_ps_mask(u, _mm512_setzero_ps(), _CMP_GT_OQ);
      all = _mm512_mask_cmp_ps_mask(all, _mm512_sub_ps(thetas, u), halves, _CMP_LT_OQ);
      all = _mm512_mask_cmp_ps_mask(all, _mm512_sub_ps(u, thetas), halves, _CMP_LT_OQ);
      const __mmask16 open = _mm512_cmp_ps_mask(u, thetas, _CMP_GT_OQ);
      bits.all |= static_cast<std::uint32_t>(all) << i;
      bits.closed |= static_cast<std::uint32_t>(all & ~open & 0xffff) << i;
    }
    const std::uint32_t valid = rows >= 32 ? ~0u : (1u << rows) - 1;
    return {bits.all & valid, bits.closed & valid};
  }
#endif
  for (std::int64_t i = 0; i < smaller(rows, 32); ++i) {
    const Number u = p[i] * norm;
    const bool in_window = u > 0 && theta - u < half && u - theta < half;
    bits.all |= static_cast<std::uint32_t>(in_window) << i;
    bits.closed |= static_cast<std::uint32_t>(in_window && !(u > theta)) << i;
  }
  return bits;
}

template <class Number>
inline void write_block_begins(const RowBlocks& blocks, const Entries<Number>& entries,
                               std::int64_t feature, const std::int32_t* row) {
  const std::int32_t count = entries.count_F[feature];
  std::int32_t* const begin = entries.begin_FN + feature * (blocks.count + 1);
  std::int32_t i = 0;
  for (std::int64_t n = 0; n < blocks.count; ++n) {
    while (i < count && row[i] < n * blocks.rows) ++i;
    begin[n] = i;
  }
  begin[blocks.count] = count;
}

// Moves the entries, p scale > limit, to the front of a feature's row and returns how many there
// are.
template <class Number>
inline std::int32_t collect(Number* p, std::int32_t* row, std::int64_t rows, Number scale,
                            Number limit) {
  std::int32_t count = 0;
#ifdef __AVX512F__
  if constexpr (sizeof(Number) == 4) {
    const __m512 scales = _mm512_set1_ps(scale), limits = _mm512_set1_ps(limit);
    __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (std::int64_t b = 0; b < rows; b += 16) {
      const __m512 value = _mm512_loadu_ps(p + b);
      const __mmask16 valid =
          rows - b >= 16 ? 0xffff : static_cast<__mmask16>((1u << (rows - b)) - 1);
      const __mmask16 taken =
          _mm512_mask_cmp_ps_mask(valid, _mm512_mul_ps(value, scales), limits, _CMP_GT_OQ);
      _mm512_storeu_ps(p + count, _mm512_maskz_compress_ps(taken, value));
      _mm512_storeu_si512(row + count, _mm512_maskz_compress_epi32(taken, index));
      count += __builtin_popcount(taken);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
    return count;
  }
#endif
  for (std::int64_t b = 0; b < rows; ++b) {
    const Number value = p[b];
    p[count] = value;
    row[count] = static_cast<std::int32_t>(b);
    count += value * scale > limit;
  }
  return count;
}

template <class Number>
void gates_of(const GatesArguments<Number>& a, std::int64_t feature_begin,
              std::int64_t feature_end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  const std::int64_t words = num_words(s), stride = bits_stride(s);
  for (std::int64_t f = feature_begin; f < feature_end; ++f) {
    Number* const p = a.entries.value_FB + f * s.row_stride;
    std::int32_t* const row = a.entries.row_FB + f * s.row_stride;
    const Vector<Number> bias = broadcast(a.bias_F[f]);
    for (std::int64_t b = 0; b < s.row_stride; b += lanes) store(p + b, load(p + b) + bias);
    std::int32_t num_positive = 0;
    for (std::int64_t w = 0; w < words; ++w) {
      const std::uint32_t bits = positive_bits(p + 32 * w, s.rows - 32 * w);
      a.positive_WF[w * stride + f] = bits;
      num_positive += __builtin_popcount(bits);
    }

    const Number* const norm = a.norm_FK + f * s.heads;
    const Number theta = a.threshold_F[f];
    const bool is_far = theta >= a.half_window;
    std::int32_t* const num_closed = a.num_closed_FK + f * s.heads;
    for (std::int64_t k = 0; k < s.heads; ++k) {
      num_closed[k] = is_far ? 0 : num_positive;
      for (std::int64_t w = 0; a.window_KWF && w < words; ++w) {
        WindowBits bits{a.positive_WF[w * stride + f], 0};
        if (is_far) bits = window_bits(p + 32 * w, s.rows - 32 * w, norm[k], theta, a.half_window);
        a.window_KWF[bits_offset(s, k) + w * stride + f] = bits.all;
        num_closed[k] += __builtin_popcount(bits.closed);
      }
    }
    Number largest = a.largest_norm_F ? a.largest_norm_F[f] : Number(0);
    for (std::int64_t k = 0; k < s.heads; ++k) largest = norm[k] > largest ? norm[k] : largest;
    const std::int32_t count = collect(p, row, s.rows, largest, theta);
    a.entries.count_F[f] = count;
    for (std::int64_t i = count; i < s.row_stride && i % lanes != 0; ++i) p[i] = 0;
    write_block_begins(a.blocks, a.entries, f, row);

    double score_sum = 0;
    std::int64_t num_open = 0;
    for (std::int64_t k = 0; k < s.heads; ++k) {
      Vector<Number> score{};
      typename VectorOf<Number>::integers open{};
      for (std::int64_t i = 0; i < count; i += lanes) {
        const Vector<Number> u = load(p + i) * norm[k];
        const auto is_open = u > theta;
        score += is_open ? tanh_of_positive(u * a.stretch) : Vector<Number>{};
        open -= is_open;
      }
      score_sum += static_cast<double>(sum(score));
      std::int32_t num_open_of_head = 0;
      for (std::int64_t i = 0; i < lanes; ++i)
        num_open_of_head += static_cast<std::int32_t>(open[i]);
      num_open += num_open_of_head;
      if (!is_far) num_closed[k] -= num_open_of_head;
    }
    a.score_sum_F[f] = score_sum;
    a.num_open_F[f] = num_open;
  }
}

template <class Number>
void find_blocks_of(const CrosscoderSizes& s, const RowBlocks& blocks,
                    const Entries<Number>& entries, std::int64_t feature_begin,
                    std::int64_t feature_end) {
  for (std::int64_t f = feature_begin; f < feature_end; ++f)
    write_block_begins(blocks, entries, f, entries.row_FB + f * s.row_stride);
}

// The entries [begin, end) of a feature whose gate is open at a head: their places, rows and
// values.
template <class Number>
inline std::int32_t open_entries(const Number* p, const std::int32_t* row, std::int32_t begin,
                                 std::int32_t end, bool gated, Number norm, Number theta,
                                 std::int32_t* place, std::int32_t* open_row, Number* value) {
  std::int32_t count = 0;
  for (std::int32_t i = begin; i < end; ++i) {
    place[count] = i;
    open_row[count] = row[i];
    value[count] = p[i];
    count += !gated || p[i] * norm > theta;
  }
  return count;
}

template <class Number>
void decode_of(const DecodeArguments<Number>& a, std::int64_t slab_index, std::int64_t block) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  const Slab slab = slab_at(s, slab_index);
  const std::int64_t C = slab.columns, first = block * a.blocks.rows;
  const std::int64_t rows = smaller(a.blocks.rows, s.rows - first);
  Number* const error = a.error_SBC + slab.offset(s);
  const Number* const target = a.target_SBC + slab.offset(s);
  const Number* const bias = a.decoder_bias_KD + slab.head * s.width + slab.column;
  for (std::int64_t b = first; b < first + rows; ++b)
    for (std::int64_t c = 0; c < C; c += lanes)
      store(error + b * C + c, (a.decoded ? load(error + b * C + c) : Vector<Number>{}) +
                                   load(bias + c) - load(target + b * C + c));

  const Number* const decoder = a.decoder_KFD + slab.head * s.features * s.width + slab.column;
  for (std::int64_t f = 0; f < s.features && !a.decoded; ++f) {
    const std::int32_t* const begin = a.entries.begin_FN + f * (a.blocks.count + 1) + block;
    if (begin[0] == begin[1]) continue;
    const Number* const p = a.entries.value_FB + f * s.row_stride;
    const std::int32_t* const row = a.entries.row_FB + f * s.row_stride;
    const bool gated = a.gate == Gate::PerHead;
    const Number norm = gated ? a.norm_FK[f * s.heads + slab.head] : Number(0);
    const Number theta = gated ? a.threshold_F[f] : Number(0);
    over_pieces<Number>(C, [&]<int N>(std::int64_t column) {
      Vector<Number> w[N];
      for (int n = 0; n < N; ++n) w[n] = load(decoder + f * s.width + column + n * lanes);
      for (std::int32_t i = begin[0]; i < begin[1]; ++i) {
        if (gated && !(p[i] * norm > theta)) continue;
        Number* const r = error + row[i] * C + column;
        const Vector<Number> code = broadcast(p[i]);
        for (int n = 0; n < N; ++n) store(r + n * lanes, load(r + n * lanes) + code * w[n]);
      }
    });
  }

  Number* const column_sum =
      a.column_sum_SNC + (slab_index * a.blocks.count + block) * kSlabColumns;
  for (std::int64_t c = 0; c < C; c += lanes) store(column_sum + c, Vector<Number>{});
  double squares = 0;
  for (std::int64_t b = first; b < first + rows; ++b) {
    Vector<Number> square{};
    for (std::int64_t c = 0; c < C; c += lanes) {
      Vector<Number> e = load(error + b * C + c);
      square += e * e;
      e *= a.scale;
      store(error + b * C + c, e);
      store(column_sum + c, load(column_sum + c) + e);
    }
    squares += static_cast<double>(sum(square));
  }
  a.squared_error_SN[slab_index * a.blocks.count + block] = squares;
}

template <class Number>
void spread_of(const CrosscoderSizes& s, const Entries<Number>& entries, const Number* value_FB,
               Number* out_FB, std::int64_t feature_begin, std::int64_t feature_end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  for (std::int64_t f = feature_begin; f < feature_end; ++f) {
    Number* const out = out_FB + f * s.row_stride;
    for (std::int64_t b = 0; b < s.row_stride; b += lanes) store(out + b, Vector<Number>{});
    const Number* const value = value_FB + f * s.row_stride;
    const std::int32_t* const row = entries.row_FB + f * s.row_stride;
    for (std::int32_t i = 0; i < entries.count_F[f]; ++i) out[row[i]] = value[i];
  }
}

template <class Number>
void dense_codes_of(const DecodeArguments<Number>& a, std::int64_t head, Number* code_FB,
                    std::int64_t feature_begin, std::int64_t feature_end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  for (std::int64_t f = feature_begin; f < feature_end; ++f) {
    Number* const code = code_FB + f * s.row_stride;
    for (std::int64_t b = 0; b < s.row_stride; b += lanes) store(code + b, Vector<Number>{});
    const Number* const p = a.entries.value_FB + f * s.row_stride;
    const std::int32_t* const row = a.entries.row_FB + f * s.row_stride;
    const Number norm = a.norm_FK[f * s.heads + head], theta = a.threshold_F[f];
    for (std::int32_t i = 0; i < a.entries.count_F[f]; ++i)
      code[row[i]] = p[i] * norm > theta ? p[i] : Number(0);
  }
}

// Adds to sums_FC, for N vectors of columns, the error's rows whose bits are set: for each four
// rows a table of their 16 sums, and for each feature one line of each table.
template <class Number, int N>
void add_rows(const BandArguments<Number>& a, const std::uint32_t* bits_WF, const Number* error,
              std::int64_t stride, std::int64_t feature_begin, std::int64_t features,
              Number* sums_FC) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  alignas(64) Number table[8][16][N * lanes];
  for (std::int64_t word = 0; word * 32 < s.rows; ++word) {
    for (int g = 0; g < 8; ++g) {
      for (std::int64_t i = 0; i < N * lanes; ++i) table[g][0][i] = 0;
      for (int bit = 0; bit < 4; ++bit) {
        const std::int64_t b = 32 * word + 4 * g + bit;
        for (int known = 0; known < 1 << bit; ++known)
          for (int n = 0; n < N; ++n)
            store(&table[g][known | 1 << bit][n * lanes],
                  b < s.rows
                      ? load(&table[g][known][n * lanes]) + load(error + b * stride + n * lanes)
                      : load(&table[g][known][n * lanes]));
      }
    }
    const std::uint32_t* const bits_F = bits_WF + word * bits_stride(s) + feature_begin;
    for (std::int64_t f = 0; f < features; ++f) {
      const std::uint32_t bits = bits_F[f];
      if (bits == 0) continue;
      Number* const sums = sums_FC + f * kStripColumns<Number>;
      Vector<Number> part[N];
      for (int n = 0; n < N; ++n) part[n] = load(sums + n * lanes);
      for (int g = 0; g < 8; ++g) {
        const Number* const line = table[g][bits >> (4 * g) & 15];
        for (int n = 0; n < N; ++n) part[n] += load(line + n * lanes);
      }
      for (int n = 0; n < N; ++n) store(sums + n * lanes, part[n]);
    }
  }
}

template <class Number>
void band_of(const BandArguments<Number>& a, std::int64_t strip_index, Number* sums_FC) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  const Strip<Number> strip = strip_at<Number>(s, strip_index);
  const Slab slab = slab_at(s, strip.slab);
  const Number* const error = a.error_SBC + slab.offset(s) + strip.column;
  const Number* const decoder =
      a.decoder_KFD + slab.head * s.features * s.width + slab.column + strip.column;
  const std::uint32_t* const bits_WF =
      a.window_KWF ? a.window_KWF + bits_offset(s, slab.head) : a.positive_WF;
  for (std::int64_t begin = 0; begin < s.features; begin += kBandFeatures) {
    const std::int64_t features = smaller(kBandFeatures, s.features - begin);
    for (std::int64_t i = 0; i < features * kStripColumns<Number>; i += lanes)
      store(sums_FC + i, Vector<Number>{});
    const auto add = [&]<int N>() {
      add_rows<Number, N>(a, bits_WF, error, slab.columns, begin, features, sums_FC);
    };
    switch (strip.columns / lanes) {
      case 4:
        add.template operator()<4>();
        break;
      case 3:
        add.template operator()<3>();
        break;
      case 2:
        add.template operator()<2>();
        break;
      default:
        add.template operator()<1>();
        break;
    }
    for (std::int64_t f = begin; f < begin + features; ++f) {
      Vector<Number> product{};
      for (std::int64_t c = 0; c < strip.columns; c += lanes)
        product += load(sums_FC + (f - begin) * kStripColumns<Number> + c) *
                   load(decoder + f * s.width + c);
      const Number norm = a.norm_FK[f * s.heads + slab.head];
      a.band_UF[strip_index * s.features + f] = norm > 0 ? sum(product) / norm : Number(0);
    }
  }
}

inline std::uint16_t to_bf16(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// One update, or the gradient as it is; returns the sum of squares of the new values.
template <class Number>
inline Number update(const Updated<Number>& t, const AdamRates& rates, const Number* gradient,
                     std::int64_t at, std::int64_t count) {
  constexpr std::int64_t lanes = kLanes<Number>;
  if (t.gradient) {
    for (std::int64_t i = 0; i < count; i += lanes) store(t.gradient + at + i, load(gradient + i));
    return 0;
  }
  const auto beta1 = static_cast<Number>(rates.beta1), beta2 = static_cast<Number>(rates.beta2),
             rest1 = static_cast<Number>(1 - rates.beta1),
             rest2 = static_cast<Number>(1 - rates.beta2), eps = static_cast<Number>(rates.eps),
             step = static_cast<Number>(rates.step_size),
             correction = static_cast<Number>(1 / rates.root_correction),
             decay = static_cast<Number>(rates.decay);
  Vector<Number> squares{};
  for (std::int64_t i = 0; i < count; i += lanes) {
    const Vector<Number> g = load(gradient + i);
    const Vector<Number> m = load(t.exp_avg + at + i) * beta1 + g * rest1;
    const Vector<Number> v = load(t.exp_avg_sq + at + i) * beta2 + g * g * rest2;
    const Vector<Number> p =
        load(t.value + at + i) * decay - step * m / (square_root(v) * correction + eps);
    store(t.exp_avg + at + i, m);
    store(t.exp_avg_sq + at + i, v);
    store(t.value + at + i, p);
    squares += p * p;
  }
  if constexpr (sizeof(Number) == 4)
    if (t.bf16)
      for (std::int64_t i = 0; i < count; ++i) t.bf16[at + i] = to_bf16(t.value[at + i]);
  return sum(squares);
}

template <class Number>
void adam_of(const Updated<Number>& t, const AdamRates& rates, const Number* gradient,
             std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const std::int64_t whole = (end - begin) / lanes * lanes;
  update(t, rates, gradient + begin, begin, whole);
  for (std::int64_t i = begin + whole; i < end; ++i) {  // the tail, by vectors of one number
    Number value[lanes]{}, m[lanes]{}, v[lanes]{}, g[lanes]{};
    g[0] = gradient[i];
    if (t.gradient) {
      t.gradient[i] = g[0];
      continue;
    }
    value[0] = t.value[i], m[0] = t.exp_avg[i], v[0] = t.exp_avg_sq[i];
    update(Updated<Number>{value, m, v, nullptr, nullptr}, rates, g, 0, lanes);
    t.value[i] = value[0], t.exp_avg[i] = m[0], t.exp_avg_sq[i] = v[0];
    if constexpr (sizeof(Number) == 4)
      if (t.bf16) t.bf16[i] = to_bf16(value[0]);
  }
}

template <class Number>
inline void prefetch(const Updated<Number>& t, std::int64_t at, std::int64_t count) {
  if (t.gradient) return;
  for (std::int64_t i = 0; i < count; i += kLanes<Number>) {
    __builtin_prefetch(t.value + at + i, 1);
    __builtin_prefetch(t.exp_avg + at + i, 1);
    __builtin_prefetch(t.exp_avg_sq + at + i, 1);
  }
}

// Some entries of one feature, their codes, and what comes of them.
template <class Number>
struct Listed {
  std::int32_t* place;
  std::int32_t* row;
  Number* value;
  Number* product;  // e . W_D over the columns of a slab
  std::int32_t count;
};

// row += sum of value e, and product = e . w, over the listed entries.
template <class Number>
inline void products(const Listed<Number>& entries, const Number* error, std::int64_t columns,
                     const Number* decoder, Number* gradient) {
  constexpr std::int64_t lanes = kLanes<Number>;
  for (std::int32_t i = 0; i < entries.count; ++i) entries.product[i] = 0;
  over_pieces<Number>(columns, [&]<int N>(std::int64_t column) {
    Vector<Number> part[N];
    for (int n = 0; n < N; ++n) part[n] = load(gradient + column + n * lanes);
    const Number* const w = decoder + column;
    for (std::int32_t i = 0; i < entries.count; ++i) {
      const Number* const e = error + entries.row[i] * columns + column;
      const Vector<Number> code = broadcast(entries.value[i]);
      Vector<Number> dot[2]{};
      for (int n = 0; n < N; ++n) {
        const Vector<Number> piece = load(e + n * lanes);
        part[n] += code * piece;
        dot[n % 2] += piece * load(w + n * lanes);
      }
      entries.product[i] += sum(dot[0] + dot[1]);
    }
    for (int n = 0; n < N; ++n) store(gradient + column + n * lanes, part[n]);
  });
}

// What the threshold's gradient and the sparsity term take from one feature at one head.
template <class Number>
struct HeadTerms {
  Number code_pull = 0;  // sum of a (1 - s^2) over open gates
  double near = 0;       // what `band` has not, less what it has too much
};

template <class Number>
inline HeadTerms<Number> sparsity_terms(const BackwardArguments<Number>& a, std::int64_t f,
                                        Number norm, const Listed<Number>& open, bool first_of_head,
                                        Number* pre_gradient) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const Number theta = a.threshold_F[f], pull = a.pull_F[f];
  const Number inverse_norm = norm > 0 ? 1 / norm : Number(0);
  // Then `band` has what lies above the window, too.
  const bool is_near = theta < a.half_window;
  HeadTerms<Number> terms;
  for (std::int32_t i = 0; i < open.count; i += lanes) {
    Number u[lanes], q[lanes];
    const std::int32_t end = static_cast<std::int32_t>(smaller(lanes, open.count - i));
    for (std::int32_t j = 0; j < lanes; ++j) u[j] = j < end ? open.value[i + j] * norm : Number(0);
    const Vector<Number> s = tanh_of_positive(load(u) * a.stretch);
    store(q, 1 - s * s);
    for (std::int32_t j = 0; j < end; ++j) {
      const bool above = !(u[j] - theta < a.half_window);
      terms.code_pull += open.value[i + j] * q[j];
      pre_gradient[open.place[i + j]] +=
          open.product[i + j] + (first_of_head ? pull * norm * q[j] : Number(0));
      if (above && is_near) terms.near -= static_cast<double>(open.product[i + j] * inverse_norm);
      if (!above && first_of_head) terms.near += static_cast<double>(pull * q[j]);
    }
  }
  return terms;
}

// The last of a decoder row's gradient at one slab, its update, and its part of the row's new norm.
template <class Number>
inline void finish_decoder_row(const Updated<Number>& decoder_KFD, const AdamRates& rates,
                               Number* new_norm_FK, const CrosscoderSizes& s, const Slab& slab,
                               std::int64_t f, Number along_itself, Number* gradient) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const std::int64_t at = (slab.head * s.features + f) * s.width + slab.column;
  const Number* const decoder = decoder_KFD.value + at;
  if (along_itself != 0)
    for (std::int64_t c = 0; c < slab.columns; c += lanes)
      store(gradient + c, load(gradient + c) + along_itself * load(decoder + c));
  const Number squares = update(decoder_KFD, rates, gradient, at, slab.columns);
  if (decoder_KFD.gradient) return;
  Number& norm = new_norm_FK[f * s.heads + slab.head];
  norm = slab.column == 0 ? squares : norm + squares;
  if (slab.column + slab.columns == s.width)
    norm = sizeof(Number) == 4 ? static_cast<Number>(__builtin_sqrtf(norm))
                               : static_cast<Number>(__builtin_sqrt(norm));
}

template <class Number>
void backward_decoder_of(const BackwardArguments<Number>& a, std::int64_t slab_begin,
                         std::int64_t slab_end, std::int64_t feature_begin,
                         std::int64_t feature_end, Number* scratch) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  Number* const gradient = scratch + 4 * s.row_stride;
  Listed<Number> listed{reinterpret_cast<std::int32_t*>(scratch),
                        reinterpret_cast<std::int32_t*>(scratch + s.row_stride),
                        scratch + 2 * s.row_stride, scratch + 3 * s.row_stride, 0};
  for (int n = 0; n < a.num_sources && slab_begin == 0; ++n)
    for (std::int64_t f = feature_begin; f < feature_end; ++f)
      for (std::int32_t i = 0; i < a.sources[n].entries.count_F[f]; ++i)
        a.sources[n].pre_gradient_FB[f * s.row_stride + i] = 0;

  for (std::int64_t index = slab_begin; index < slab_end; ++index) {
    const Slab slab = slab_at(s, index);
    const std::int64_t C = slab.columns;
    const bool first_of_head = slab.column == 0;
    for (std::int64_t f = feature_begin; f < feature_end; ++f) {
      const std::int64_t at = (slab.head * s.features + f) * s.width + slab.column;
      const Number* const decoder = a.decoder_KFD.value + at;
      const Number norm = a.norm_FK[f * s.heads + slab.head];
      const Number inverse_norm = norm > 0 ? 1 / norm : Number(0);
      for (std::int64_t c = 0; c < C; c += lanes) store(gradient + c, Vector<Number>{});
      Number along_itself = 0;
      for (int n = 0; n < a.num_sources; ++n) {
        const Source<Number>& source = a.sources[n];
        const bool gated = source.gate == Gate::PerHead;
        const Number* const error = source.error_SBC + slab.offset(s);
        Number* const pre_gradient = source.pre_gradient_FB + f * s.row_stride;
        listed.count = open_entries(
            source.entries.value_FB + f * s.row_stride, source.entries.row_FB + f * s.row_stride, 0,
            source.entries.count_F[f], gated, norm, gated ? a.threshold_F[f] : Number(0),
            listed.place, listed.row, listed.value);
        products(listed, error, C, decoder, gradient);
        if (!gated || !a.pull_F) {
          for (std::int32_t i = 0; i < listed.count; ++i)
            pre_gradient[listed.place[i]] += listed.product[i];
          continue;
        }
        const auto terms = sparsity_terms(a, f, norm, listed, first_of_head, pre_gradient);
        along_itself += terms.code_pull * a.pull_F[f] * inverse_norm;
        a.near_F[f] += terms.near;
        if (norm > 0 && first_of_head)
          a.near_F[f] +=
              static_cast<double>(a.pull_F[f]) * a.num_closed_FK[f * s.heads + slab.head];
      }
      finish_decoder_row(a.decoder_KFD, a.rates, a.new_norm_FK, s, slab, f, along_itself, gradient);
    }
  }
}

// As many sums as registers hold beside one row of b: R rows of N vectors.
#ifdef __AVX512F__
constexpr int kProductRows = 6, kProductVectors = 4;
#else
constexpr int kProductRows = 6, kProductVectors = 1;
#endif

template <class Number, int R, int N>
inline void product_block(const Product<Number>& p, std::int64_t row, std::int64_t column) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const Number* const a = p.a + row * p.a_stride;
  const Number* b = p.b + column;
  Number* const c = p.c + row * p.c_stride + column;
  Vector<Number> sum[R][N]{};
  if (p.adds)
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) sum[r][n] = load(c + r * p.c_stride + n * lanes);
  for (std::int64_t k = 0; k < p.depth; ++k, b += p.b_stride) {
    Vector<Number> piece[N];
    for (int n = 0; n < N; ++n) piece[n] = load(b + n * lanes);
    for (int r = 0; r < R; ++r) {
      const Vector<Number> value = broadcast(a[r * p.a_stride + k]);
      for (int n = 0; n < N; ++n) sum[r][n] += value * piece[n];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store(c + r * p.c_stride + n * lanes, sum[r][n]);
}

template <class Number, int N>
inline void product_columns(const Product<Number>& p, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + kProductRows <= p.rows; row += kProductRows)
    product_block<Number, kProductRows, N>(p, row, column);
  for (; row < p.rows; ++row) product_block<Number, 1, N>(p, row, column);
}

template <class Number>
void multiply_of(const Product<Number>& p) {
  constexpr std::int64_t lanes = kLanes<Number>;
  std::int64_t column = 0;
  for (; column + kProductVectors * lanes <= p.columns; column += kProductVectors * lanes)
    product_columns<Number, kProductVectors>(p, column);
  for (; column < p.columns; column += lanes) product_columns<Number, 1>(p, column);
}

template <class Number>
void pack_error_of(const CrosscoderSizes& s, const Number* error_SBC, std::int64_t head,
                   std::int64_t panel, Number* packed) {
  const std::int64_t per_head = num_slabs(s) / s.heads, first = panel * kPanelRows;
  const std::int64_t rows = smaller(kPanelRows, s.rows - first);
  for (std::int64_t index = head * per_head; index < (head + 1) * per_head; ++index) {
    const Slab slab = slab_at(s, index);
    const Number* const error = error_SBC + slab.offset(s) + first * slab.columns;
    for (std::int64_t c = 0; c < slab.columns; ++c) {
      Number* const to = packed + (slab.column + c) * kPanelRows;
      for (std::int64_t b = 0; b < rows; ++b) to[b] = error[b * slab.columns + c];
      for (std::int64_t b = rows; b < kPanelRows; ++b) to[b] = 0;
    }
  }
}

// Whether bit `lane` of a vector's rows is set.
template <class Number>
inline auto lanes_of_bits(std::uint32_t bits) {
  typename VectorOf<Number>::integers lane;
  for (int i = 0; i < kLanes<Number>; ++i) lane[i] = i;
  const auto all = typename VectorOf<Number>::integers{} + static_cast<std::int32_t>(bits);
  return ((all >> lane) & 1) != 0;
}

template <class Number>
void whole_gates_of(const WholeArguments<Number>& a, std::int64_t feature_begin,
                    std::int64_t feature_end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  for (std::int64_t f = feature_begin; f < feature_end; ++f) {
    const Number norm = a.norm_FK[f * s.heads + a.head], theta = a.threshold_F[f];
    const Number inverse_norm = norm > 0 ? 1 / norm : Number(0), pull = a.pull_F[f];
    const Number* const p_B = a.pre_FB + f * s.row_stride;
    Number* const product_B = a.product_FB + f * s.row_stride;
    Number* const pre_gradient_B = a.pre_gradient_FB + f * s.row_stride;
    Vector<Number> code_pull{};
    double near = 0;
    for (std::int64_t w = 0; 32 * w < s.rows; ++w) {
      const std::uint32_t bits = a.bits_WF[w * bits_stride(s) + f];
      Vector<Number> near_of_word{};
      for (std::int64_t i = 0; i < 32; i += lanes) {
        const std::int64_t b = 32 * w + i;
        const Vector<Number> p = load(p_B + b), u = p * norm, product = load(product_B + b);
        const auto open = u > theta;
        // A gate that is closed has a code of 0, and tanh the slope 1 there.
        const Vector<Number> score = tanh_of_positive(open ? u * a.stretch : Vector<Number>{});
        const Vector<Number> slope = 1 - score * score;
        const Vector<Number> code = open ? p : Vector<Number>{};
        code_pull += code * slope;
        store(pre_gradient_B + b,
              load(pre_gradient_B + b) + (open ? product + pull * norm * slope : Vector<Number>{}));
        store(product_B + b, code);
        // Where the gate is closed a bit says that the row is in the window.
        const auto above = u - theta >= a.half_window;
        const auto near_it = lanes_of_bits<Number>(bits >> i) & ~above;
        near_of_word += near_it ? product * inverse_norm + pull * slope : Vector<Number>{};
      }
      near += static_cast<double>(sum(near_of_word));
    }
    a.along_F[f] = sum(code_pull) * pull * inverse_norm;
    if (norm > 0) a.near_F[f] += near;
  }
}

template <class Number>
void whole_decoder_of(const WholeArguments<Number>& a, std::int64_t feature_begin,
                      std::int64_t feature_end, Number* scratch) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  const std::int64_t per_head = num_slabs(s) / s.heads;
  for (std::int64_t index = a.head * per_head; index < (a.head + 1) * per_head; ++index) {
    const Slab slab = slab_at(s, index);
    for (std::int64_t f = feature_begin; f < feature_end; ++f) {
      const Number* const from = a.gradient_FD + f * s.width + slab.column;
      for (std::int64_t c = 0; c < slab.columns; c += lanes) store(scratch + c, load(from + c));
      finish_decoder_row(a.decoder_KFD, a.rates, a.new_norm_FK, s, slab, f, a.along_F[f], scratch);
    }
  }
}

template <class Number>
void backward_encoder_of(const BackwardArguments<Number>& a, std::int64_t feature_begin,
                         std::int64_t feature_end, Number* scratch) {
  constexpr std::int64_t lanes = kLanes<Number>;
  const CrosscoderSizes& s = a.sizes;
  const std::int64_t KD = s.heads * s.width;
  for (std::int64_t f = feature_begin; f < feature_end; ++f) {
    Number bias = 0;
    for (int n = 0; n < a.num_sources; ++n)
      for (std::int32_t i = 0; i < a.sources[n].entries.count_F[f]; ++i)
        bias += a.sources[n].pre_gradient_FB[f * s.row_stride + i];
    a.bias_gradient_F[f] = bias;
  }
  for (std::int64_t index = 0; index < num_slabs(s); ++index) {
    const Slab slab = slab_at(s, index);
    const std::int64_t C = slab.columns;
    const Number* const x = a.x_SBC + slab.offset(s);
    for (std::int64_t f = feature_begin; f < feature_end; ++f) {
      const std::int64_t at = f * KD + slab.head * s.width + slab.column;
      if (f + 1 < feature_end) prefetch(a.encoder_FKD, at + KD, C);
      over_pieces<Number>(C, [&]<int N>(std::int64_t column) {
        Vector<Number> part[N]{};
        for (int n = 0; n < a.num_sources; ++n) {
          const Number* const pre_gradient = a.sources[n].pre_gradient_FB + f * s.row_stride;
          const std::int32_t* const row = a.sources[n].entries.row_FB + f * s.row_stride;
          for (std::int32_t i = 0; i < a.sources[n].entries.count_F[f]; ++i) {
            const Number* const from = x + row[i] * C + column;
            const Vector<Number> dp = broadcast(pre_gradient[i]);
            for (int v = 0; v < N; ++v) part[v] += dp * load(from + v * lanes);
          }
        }
        for (int v = 0; v < N; ++v) store(scratch + column + v * lanes, part[v]);
      });
      update(a.encoder_FKD, a.rates, scratch, at, C);
    }
  }
}

template <class Number>
void decoder_norms_of(const CrosscoderSizes& s, const Number* decoder_KFD, Number* norm_FK,
                      std::int64_t feature_begin, std::int64_t feature_end) {
  constexpr std::int64_t lanes = kLanes<Number>;
  for (std::int64_t k = 0; k < s.heads; ++k)
    for (std::int64_t f = feature_begin; f < feature_end; ++f) {
      const Number* const row = decoder_KFD + (k * s.features + f) * s.width;
      Number square = 0;
      for (std::int64_t column = 0; column < s.width; column += kSlabColumns) {
        Vector<Number> part{};
        const std::int64_t columns = smaller(kSlabColumns, s.width - column);
        for (std::int64_t c = 0; c < columns; c += lanes) {
          const Vector<Number> v = load(row + column + c);
          part += v * v;
        }
        square = column == 0 ? sum(part) : square + sum(part);
      }
      norm_FK[f * s.heads + k] = sizeof(Number) == 4 ? static_cast<Number>(__builtin_sqrtf(square))
                                                     : static_cast<Number>(__builtin_sqrt(square));
    }
}

template <class Number>
constexpr Table<Number> make_table() {
  return {.gates = gates_of<Number>,
          .find_blocks = find_blocks_of<Number>,
          .decode = decode_of<Number>,
          .spread = spread_of<Number>,
          .dense_codes = dense_codes_of<Number>,
          .band = band_of<Number>,
          .adam = adam_of<Number>,
          .backward_decoder = backward_decoder_of<Number>,
          .multiply = multiply_of<Number>,
          .pack_error = pack_error_of<Number>,
          .whole_gates = whole_gates_of<Number>,
          .whole_decoder = whole_decoder_of<Number>,
          .backward_encoder = backward_encoder_of<Number>,
          .decoder_norms = decoder_norms_of<Number>};
}

}  // namespace

const Tables tables{make_table<float>(), make_table<double>()};

}  // namespace cresco::kernels::CRESCO_ISA
