// The kernels of the chosen instruction set. Moments of features that have stopped firing shrink to
// denormals: they count as 0 here.
#include "cresco/kernels/crosscoder.h"

#include "cresco/kernels/cpu/crosscoder_table.h"
#include "cresco/kernels/cpu/denormals.h"
#include "cresco/kernels/isa.h"

namespace cresco::kernels {
namespace {

const Tables& tables() {
  switch (chosen_isa()) {
    case Isa::Avx512:
      return avx512::tables;
    case Isa::Avx2:
      return avx2::tables;
    default:
      return x86_64::tables;
  }
}

template <class Number>
const Table<Number>& table();
template <>
const Table<float>& table() {
  return tables().floats;
}
template <>
const Table<double>& table() {
  return tables().doubles;
}

}  // namespace

template <class Number>
void gates(const GatesArguments<Number>& arguments, std::int64_t begin, std::int64_t end) {
  table<Number>().gates(arguments, begin, end);
}
template <class Number>
void find_blocks(const CrosscoderSizes& sizes, const RowBlocks& blocks,
                 const Entries<Number>& entries, std::int64_t begin, std::int64_t end) {
  table<Number>().find_blocks(sizes, blocks, entries, begin, end);
}
template <class Number>
void decode(const DecodeArguments<Number>& arguments, std::int64_t slab, std::int64_t block) {
  table<Number>().decode(arguments, slab, block);
}
template <class Number>
void spread(const CrosscoderSizes& sizes, const Entries<Number>& entries, const Number* value_FB,
            Number* out_FB, std::int64_t begin, std::int64_t end) {
  table<Number>().spread(sizes, entries, value_FB, out_FB, begin, end);
}
template <class Number>
void dense_codes(const DecodeArguments<Number>& arguments, std::int64_t head, Number* code_FB,
                 std::int64_t begin, std::int64_t end) {
  table<Number>().dense_codes(arguments, head, code_FB, begin, end);
}
template <class Number>
void band(const BandArguments<Number>& arguments, std::int64_t slab, Number* sums_FC) {
  table<Number>().band(arguments, slab, sums_FC);
}
template <class Number>
void adam(const Updated<Number>& tensor, const AdamRates& rates, const Number* gradient,
          std::int64_t begin, std::int64_t end) {
  const DenormalsAreZero guard;
  table<Number>().adam(tensor, rates, gradient, begin, end);
}
template <class Number>
void backward_decoder(const BackwardArguments<Number>& arguments, std::int64_t slab_begin,
                      std::int64_t slab_end, std::int64_t begin, std::int64_t end,
                      Number* scratch) {
  const DenormalsAreZero guard;
  table<Number>().backward_decoder(arguments, slab_begin, slab_end, begin, end, scratch);
}
template <class Number>
void multiply(const Product<Number>& product) {
  table<Number>().multiply(product);
}
template <class Number>
void pack_error(const CrosscoderSizes& sizes, const Number* error_SBC, std::int64_t head,
                std::int64_t panel, Number* packed) {
  table<Number>().pack_error(sizes, error_SBC, head, panel, packed);
}
template <class Number>
void whole_gates(const WholeArguments<Number>& arguments, std::int64_t begin, std::int64_t end) {
  const DenormalsAreZero guard;
  table<Number>().whole_gates(arguments, begin, end);
}
template <class Number>
void whole_decoder(const WholeArguments<Number>& arguments, std::int64_t begin, std::int64_t end,
                   Number* scratch) {
  const DenormalsAreZero guard;
  table<Number>().whole_decoder(arguments, begin, end, scratch);
}
template <class Number>
void backward_encoder(const BackwardArguments<Number>& arguments, std::int64_t begin,
                      std::int64_t end, Number* scratch) {
  const DenormalsAreZero guard;
  table<Number>().backward_encoder(arguments, begin, end, scratch);
}
template <class Number>
void decoder_norms(const CrosscoderSizes& sizes, const Number* decoder_KFD, Number* norm_FK,
                   std::int64_t begin, std::int64_t end) {
  table<Number>().decoder_norms(sizes, decoder_KFD, norm_FK, begin, end);
}

#define CRESCO_KERNELS(Number)                                                                     \
  template void multiply(const Product<Number>&);                                                  \
  template void pack_error(const CrosscoderSizes&, const Number*, std::int64_t, std::int64_t,      \
                           Number*);                                                               \
  template void gates(const GatesArguments<Number>&, std::int64_t, std::int64_t);                  \
  template void find_blocks(const CrosscoderSizes&, const RowBlocks&, const Entries<Number>&,      \
                            std::int64_t, std::int64_t);                                           \
  template void decode(const DecodeArguments<Number>&, std::int64_t, std::int64_t);                \
  template void spread(const CrosscoderSizes&, const Entries<Number>&, const Number*, Number*,     \
                       std::int64_t, std::int64_t);                                                \
  template void whole_gates(const WholeArguments<Number>&, std::int64_t, std::int64_t);            \
  template void whole_decoder(const WholeArguments<Number>&, std::int64_t, std::int64_t, Number*); \
  template void dense_codes(const DecodeArguments<Number>&, std::int64_t, Number*, std::int64_t,   \
                            std::int64_t);                                                         \
  template void band(const BandArguments<Number>&, std::int64_t, Number*);                         \
  template void adam(const Updated<Number>&, const AdamRates&, const Number*, std::int64_t,        \
                     std::int64_t);                                                                \
  template void backward_decoder(const BackwardArguments<Number>&, std::int64_t, std::int64_t,     \
                                 std::int64_t, std::int64_t, Number*);                             \
  template void backward_encoder(const BackwardArguments<Number>&, std::int64_t, std::int64_t,     \
                                 Number*);                                                         \
  template void decoder_norms(const CrosscoderSizes&, const Number*, Number*, std::int64_t,        \
                              std::int64_t);
CRESCO_KERNELS(float)
CRESCO_KERNELS(double)
#undef CRESCO_KERNELS

}  // namespace cresco::kernels
