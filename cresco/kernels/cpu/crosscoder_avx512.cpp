#define CRESCO_ISA avx512
#include "cresco/kernels/cpu/crosscoder_impl.h"
