// Products of floats with a panel of 64 columns, whose numbers for one step of depth lie side by
// side: out (M, 64) = a (M, K) panel (K, 64). Nothing has to be packed: a is read number by number,
// in any layout, so that a matrix and its transpose serve alike, and results may be the panels of
// what comes next. Every number of out is a sum in order of depth, whatever rows are computed
// together.
#pragma once

#include "cresco/kernels/isa.h"

#include <cstdint>

namespace cresco::kernels {

inline constexpr std::int64_t kPanelWidth = 64;
inline constexpr std::int64_t num_column_panels(std::int64_t columns) {
  return (columns + kPanelWidth - 1) / kPanelWidth;
}

struct PanelProduct {
  std::int64_t rows = 0, depth = 0;    // M, K
  std::int64_t columns = kPanelWidth;  // of out that there are; the panel has all
  const float* a = nullptr;            // a[i,k] is a[i a_row + k a_depth]
  std::int64_t a_row = 0, a_depth = 0;
  const float* panel = nullptr;
  float* out = nullptr;
  std::int64_t out_row = 0;
  bool adds = false;
  // Asked for meanwhile, little by little: what this core needs next, into its second-level cache.
  const void* next = nullptr;
  std::int64_t next_bytes = 0;
};
void panel_product(const PanelProduct& product, Isa isa = chosen_isa());

}  // namespace cresco::kernels
