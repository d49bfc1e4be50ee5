#include "cresco/tensor/one_thread.h"

// MKL's, inside LibTorch's library; a LibTorch that was built with another one does not have it.
extern "C" [[gnu::weak]] int MKL_Set_Num_Threads_Local(int count);

namespace cresco::tensor {

OneThreadProducts::OneThreadProducts()
    : before_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0) {}

OneThreadProducts::~OneThreadProducts() {
  if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(before_);
}

}  // namespace cresco::tensor
