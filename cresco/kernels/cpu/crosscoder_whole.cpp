// The kernels of crosscoder_whole.h here, one thread after the other, and the way to the GPU's.
#include "cresco/kernels/crosscoder_whole.h"

#include "cresco/kernels/cpu/on_gpu.h"
#include "cresco/kernels/cuda/launch.h"
#include "cresco/kernels/whole_body.h"

namespace cresco::kernels {
namespace {

struct OneThread {
  std::int64_t thread = 0, threads = 1;
  template <class Number>
  Number sum(Number x) const {
    return x;
  }
};

template <class Arguments>
void over_columns(const Place& place, const Arguments& a, std::int64_t columns,
                  std::int64_t pieces) {
  if (place.gpu)
    return on_gpu([&] { return cuda::over_columns(a, columns, pieces, place.stream); });
  for (std::int64_t piece = 0; piece < pieces; ++piece)
    for (std::int64_t column = 0; column < columns; ++column) whole::body(a, column, piece);
}

template <class Arguments>
void over_rows(const Place& place, const Arguments& a) {
  if (place.gpu) return on_gpu([&] { return cuda::over_rows(a, a.rows, place.stream); });
  OneThread team;
  for (std::int64_t row = 0; row < a.rows; ++row) whole::body(a, row, team);
}

}  // namespace

template <class Number>
void whole_codes(const Place& place, const WholeCodes<Number>& a) {
  over_columns(place, a, a.features, num_pieces(a.rows, kPieceRows));
}
template <class Number>
void whole_error(const Place& place, const WholeError<Number>& a) {
  over_columns(place, a, a.width, num_pieces(a.rows, kErrorPieceRows));
}
template <class Number>
void whole_differentiate(const Place& place, const WholeDifferentiate<Number>& a) {
  over_columns(place, a, a.features, num_pieces(a.rows, kPieceRows));
}
template <class Number>
void whole_update(const Place& place, const WholeUpdate<Number>& a) {
  over_rows(place, a);
}
template <class Number>
void whole_norms(const Place& place, const WholeNorms<Number>& a) {
  over_rows(place, a);
}

#define CRESCO_KERNELS(Number)                                                        \
  template void whole_codes(const Place&, const WholeCodes<Number>&);                 \
  template void whole_error(const Place&, const WholeError<Number>&);                 \
  template void whole_differentiate(const Place&, const WholeDifferentiate<Number>&); \
  template void whole_update(const Place&, const WholeUpdate<Number>&);               \
  template void whole_norms(const Place&, const WholeNorms<Number>&);
CRESCO_KERNELS(float)
CRESCO_KERNELS(double)
#undef CRESCO_KERNELS

}  // namespace cresco::kernels
