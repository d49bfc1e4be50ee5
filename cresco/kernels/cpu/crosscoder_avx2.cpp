#define CRESCO_ISA avx2
#include "cresco/kernels/cpu/crosscoder_impl.h"
