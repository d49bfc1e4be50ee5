#define CRESCO_ISA x86_64
#include "cresco/kernels/cpu/crosscoder_impl.h"
