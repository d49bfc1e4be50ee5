#define CRESCO_ISA avx2
#include "cresco/kernels/cpu/softmax_loss_impl.h"
