#define CRESCO_ISA x86_64
#include "cresco/kernels/cpu/panel_product_impl.h"
