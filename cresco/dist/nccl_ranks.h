// Sums over ranks of tensors that lie on GPUs, one GPU a rank.
#pragma once

#include "cresco/dist/ranks.h"

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace cresco::dist {

class NcclRanks {
 public:
  // `broadcast` gives every rank those bytes of rank 0.
  using Broadcast = std::function<void(void* bytes, std::size_t count)>;
  NcclRanks(int rank, int size, c10::DeviceIndex device, const Broadcast& broadcast);
  ~NcclRanks();
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;

  // The sum over ranks, or the largest, in place, on the current stream of the tensor's GPU. NCCL
  // reduces a number in one place and sends it to all: every rank gets the same bits.
  void reduce(const at::Tensor& t, bool sum);
  // As Ranks': a sum on a stream of its own, which begins when the current stream has come here;
  // wait() lets the then current stream wait, not the CPU.
  std::shared_ptr<Transfer> start_sum(const at::Tensor& t);
  void broadcast(const std::vector<OwnedTensor>& tensors);

 private:
  c10::cuda::CUDAStream side_stream(c10::DeviceIndex device);

  std::optional<c10::cuda::CUDAStream> side_stream_;
  ncclComm_t communicator_ = nullptr;
};

}  // namespace cresco::dist
