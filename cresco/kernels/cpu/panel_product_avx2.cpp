#define CRESCO_ISA avx2
#include "cresco/kernels/cpu/panel_product_impl.h"
