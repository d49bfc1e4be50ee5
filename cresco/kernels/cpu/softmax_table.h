// The kernels of softmax_loss.h of each instruction set.
#pragma once

#include "cresco/kernels/softmax_loss.h"

#define CRESCO_SOFTMAX_OF(isa)                                    \
  namespace cresco::kernels::isa {                                \
  void softmax_block(const SoftmaxBlock& block);                  \
  void softmax_gradient(const SoftmaxBlock& block, float weight); \
  }
CRESCO_SOFTMAX_OF(x86_64)
CRESCO_SOFTMAX_OF(avx2)
CRESCO_SOFTMAX_OF(avx512)
#undef CRESCO_SOFTMAX_OF
