#define CRESCO_ISA avx512
#include "cresco/kernels/cpu/panel_product_impl.h"
