// How the decoder rows of each feature move over the snapshots, and how often each feature fires.
//
// Shape suffixes in this folder: K snapshots, F features, V rows, D width; J = K - 1 pairs of
// neighbours. Arrays of per-feature numbers are double on the CPU.
#pragma once

#include "cresco/dictionaries/crosscoder.h"

#include <ATen/core/Tensor.h>

namespace cresco::lifecycle {

// |W_D[k,f]|.
at::Tensor decoder_norms(const at::Tensor& decoder_KFD);
// 1 - cos of a decoder row with the next snapshot's; 1e-12 is added to the product of the norms.
at::Tensor adjacent_rotation(const at::Tensor& decoder_KFD);  // (J,F)
// 1 - cos of a decoder row with the last snapshot's.
at::Tensor distance_to_terminal(const at::Tensor& decoder_KFD);  // (K,F)

// The share of rows on which the gate p |W_D[k,f]| > theta[f] is open. x_VKD is preprocessed.
at::Tensor firing_rates(const dictionaries::Crosscoder& crosscoder,
                        const at::Tensor& x_VKD);  // (K,F)

}  // namespace cresco::lifecycle
