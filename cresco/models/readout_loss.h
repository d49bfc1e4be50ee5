// Readout and cross entropy in one, and their gradients: logits of a chunk of tokens are made once,
// turned into their gradient where they are, and used for both products. Tokens x vocabulary never
// stands in memory whole.
#pragma once

#include "cresco/models/rounded_readout.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cresco::models {

// Targets of -1 are ignored. Losses are sums over targets, in nats. Shapes: N tokens, D width, V
// vocabulary.
//
// On a CPU hidden states and weights may be float, bfloat16 or half; products are of floats with
// sums in float, so that no logit is rounded to a smaller type. With `rounds`, where the processor
// has AMX, they are of numbers rounded to bfloat16, the logits' gradient among them; sums and
// logits stay float. On Intel's processors without AMX that would save nothing. (Double in and
// double out is the slow and obvious version, which tests use.) On a GPU products are in the type
// of the hidden states with sums in float.
//
// One object serves one thread at a time. Its buffers grow to what the largest call has needed and
// then stay: some 256 x V floats on a CPU; with `rounds` twice that, and the weights two times over
// in bfloat16.
class ReadoutLoss {
 public:
  explicit ReadoutLoss(bool rounds = false);

  // Adds to both gradients, times `scale`: hidden_gradient_ND is overwritten, in the type of
  // hidden_ND; weight_gradient_VD, in float (double for doubles), is added to. An undefined one is
  // not computed. Returns the sum of the losses without `scale`. On a CPU the results don't depend,
  // by one bit, on the number of threads.
  double add(const at::Tensor& hidden_ND, const at::Tensor& weight_VD, const at::Tensor& targets_N,
             double scale, const at::Tensor& hidden_gradient_ND,
             const at::Tensor& weight_gradient_VD);
  // The loss alone, as for validation.
  double loss(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
              const at::Tensor& targets_N);

 private:
  struct Call;
  double by_blocks(const Call& call);
  double by_rows(const Call& call);

  bool rounds_;
  RoundedReadout rounded_;
  at::Tensor logits_, gradient_, loss_, targets_, weight_block_, block_sums_;
  at::Tensor hidden_, hidden_panels_, hidden_columns_, hidden_sums_;
};

}  // namespace cresco::models
