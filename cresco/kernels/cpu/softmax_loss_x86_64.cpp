#define CRESCO_ISA x86_64
#include "cresco/kernels/cpu/softmax_loss_impl.h"
