// Sums over ranks of tensors that lie on GPUs, one GPU a rank.
#pragma once

#include <ATen/core/Tensor.h>
#include <nccl.h>

#include <functional>

namespace cresco::dist {

class NcclRanks {
 public:
  // `broadcast` gives every rank those bytes of rank 0.
  using Broadcast = std::function<void(void* bytes, std::size_t count)>;
  NcclRanks(int rank, int size, const Broadcast& broadcast);
  ~NcclRanks();
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;

  // The sum over ranks, or the largest, in place, on the current stream of the tensor's GPU. NCCL
  // reduces a number in one place and sends it to all: every rank gets the same bits.
  void reduce(const at::Tensor& t, bool sum);

 private:
  ncclComm_t communicator_ = nullptr;
};

}  // namespace cresco::dist
