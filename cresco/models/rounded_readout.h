// The products of readout_loss.h with what is multiplied rounded to bfloat16 and sums in float, by
// kernels/bf16_product.h. Letters as there: V vocabulary, D width, R = 64 P rows of a chunk, blocks
// of C columns of the logits.
#pragma once

#include "cresco/kernels/softmax_loss.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cresco::models {

class RoundedReadout {
 public:
  // For the calls below until the next: the weights, in blocks of `block_columns`.
  void set_weights(const at::Tensor& weight_VD, std::int64_t block_columns, bool with_gradients);
  // Hidden states (R, D and more), with zeros below the rows that there are.
  void set_rows(const at::Tensor& hidden, std::int64_t D);

  // Several threads may call these at once, for different blocks n.
  void make_logits(std::int64_t n, const kernels::SoftmaxBlock& block) const;
  // From the gradient in block.x: hidden_PD64 += (or =) gradient^T weights, weight_VD += gradient
  // hidden^T. Either may be null.
  void use_gradient(std::int64_t n, const kernels::SoftmaxBlock& block, float* hidden_PD64,
                    bool adds, float* weight_gradient_VD) const;

 private:
  std::int64_t D_ = 0, R_ = 0, C_ = 0, V_ = 0;
  at::Tensor weight_, weight_columns_, hidden_, hidden_columns_, packed_hidden_,
      packed_hidden_columns_, gradient_, packed_gradient_;
};

}  // namespace cresco::models
