// The training step of a crosscoder by whole products, for a GPU: products of dense matrices are so
// fast there that the work of skipping closed gates costs more than it saves. What stands between
// the products is here. The mathematics and the letters are those of crosscoder.h; arrays are (B,
// F), and one head at a time is at hand.
//
//   codes          of one head, and the sums of its sparsity scores
//   error          e = scale (r + b_D - target), its squares and column sums
//   differentiate  from e . W_D: its part of dp, of the threshold's gradient, and the codes again
//   update         Adam on rows of a weight, and their new norms
//   norms          the same norms from the weights alone
//
// Every one is written once (whole_body.h) and compiled for the GPU and for here, where it is the
// slow and obvious version of the other. Sums are over rows in pieces of fixed size, the pieces
// then in order: no result depends on when something ran. Number is float or double.
#pragma once

#include "cresco/kernels/crosscoder.h"
#include "cresco/kernels/place.h"

namespace cresco::kernels {

// Rows of a piece. Partial sums, C of them, come out per piece and column.
inline constexpr std::int64_t kPieceRows = 64, kErrorPieceRows = 16;
inline constexpr std::int64_t num_pieces(std::int64_t rows, std::int64_t piece_rows) {
  return (rows + piece_rows - 1) / piece_rows;
}

template <class Number>
struct WholeCodes {
  std::int64_t rows, features;
  const Number* pre_BF;  // with its bias
  const Number* norm_F;  // of the head
  const Number* threshold_F;
  Number stretch;
  Number* code_BF;            // p where its gate is open, else 0
  double* score_sum_CF;       // added to, by kPieceRows: tanh(stretch p n) over open gates
  std::int64_t* num_open_CF;  // added to
};
template <class Number>
void whole_codes(const Place& place, const WholeCodes<Number>& arguments);

template <class Number>
struct WholeError {
  std::int64_t rows, width;
  const Number* bias_D;
  const Number* target_BD;  // times target_factor
  std::int64_t target_stride;
  Number target_factor;
  Number scale;
  Number* error_BD;       // comes in as codes . W_D
  double* square_CD;      // by kErrorPieceRows: of r - target
  Number* column_sum_CD;  // of the error
};
template <class Number>
void whole_error(const Place& place, const WholeError<Number>& arguments);

template <class Number>
struct WholeDifferentiate {
  std::int64_t rows, features;
  const Number* pre_BF;
  // Null: codes are given, open where they are above 0, and there is no sparsity term.
  const Number* threshold_F;
  const Number* norm_F;
  const Number* pull_F;  // G c
  Number stretch, half_window;
  Number* product_BF;       // e . W_D comes in, the codes go out
  Number* pre_gradient_BF;  // dp, added to
  // By kPieceRows, unless codes are given:
  double* near_CF;       // added to: g/n near the threshold
  Number* code_pull_CF;  // a (1 - s^2) over open gates
};
template <class Number>
void whole_differentiate(const Place& place, const WholeDifferentiate<Number>& arguments);

template <class Number>
struct WholeUpdate {
  std::int64_t rows, columns;
  Updated<Number> tensor;  // (rows, columns); bf16 is left alone
  AdamRates rates;
  const Number* gradient;
  // Decoder rows get pull_F code_pull_F / norm_F times themselves on top. Null: nothing.
  const Number* pull_F = nullptr;
  const Number* code_pull_F = nullptr;
  const Number* norm_F = nullptr;
  Number* new_norm_F = nullptr;  // null, or gradients written: no norms
};
template <class Number>
void whole_update(const Place& place, const WholeUpdate<Number>& arguments);

// Bit for bit what an update leaves.
template <class Number>
struct WholeNorms {
  std::int64_t rows, columns;
  const Number* value;
  Number* norm;
};
template <class Number>
void whole_norms(const Place& place, const WholeNorms<Number>& arguments);

}  // namespace cresco::kernels
