#define CRESCO_ISA avx512
#include "cresco/kernels/cpu/softmax_loss_impl.h"
