#include "cresco/dist/nccl_ranks.h"

#include "cresco/base/require.h"

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

namespace cresco::dist {
namespace {

void check(ncclResult_t result, const char* what) {
  require(result == ncclSuccess, "NCCL: {} failed: {}", what, ncclGetErrorString(result));
}

ncclDataType_t type_of(const at::Tensor& t) {
  TORCH_INTERNAL_ASSERT(t.is_contiguous() && t.is_cuda());
  switch (t.scalar_type()) {
    case at::kFloat:
      return ncclFloat;
    case at::kDouble:
      return ncclDouble;
    case at::kLong:
      return ncclInt64;
    default:
      TORCH_INTERNAL_ASSERT(false);
  }
}

class SideStreamSum final : public Transfer {
 public:
  explicit SideStreamSum(const c10::cuda::CUDAStream& stream) { done_.record(stream); }
  void wait() override { done_.block(c10::cuda::getCurrentCUDAStream(done_.device_index())); }

 private:
  at::cuda::CUDAEvent done_;
};

}  // namespace

NcclRanks::NcclRanks(int rank, int size, c10::DeviceIndex device, const Broadcast& broadcast) {
  const c10::cuda::CUDAGuard guard(device);  // the communicator is of the current one
  ncclUniqueId id{};
  if (rank == 0) check(ncclGetUniqueId(&id), "an id for the ranks");
  broadcast(&id, sizeof id);
  check(ncclCommInitRank(&communicator_, size, id, rank), "joining the ranks");
}

NcclRanks::~NcclRanks() { ncclCommDestroy(communicator_); }

void NcclRanks::reduce(const at::Tensor& t, bool sum) {
  const c10::cuda::CUDAGuard guard(t.device());
  const auto stream = c10::cuda::getCurrentCUDAStream(t.get_device());
  check(ncclAllReduce(t.const_data_ptr(), t.mutable_data_ptr(), static_cast<std::size_t>(t.numel()),
                      type_of(t), sum ? ncclSum : ncclMax, communicator_, stream.stream()),
        "a sum over the ranks");
}

c10::cuda::CUDAStream NcclRanks::side_stream(c10::DeviceIndex device) {
  if (!side_stream_) side_stream_ = c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device);
  return *side_stream_;
}

std::shared_ptr<Transfer> NcclRanks::start_sum(const at::Tensor& t) {
  const c10::cuda::CUDAGuard guard(t.device());
  const c10::cuda::CUDAStream stream = side_stream(t.get_device());
  at::cuda::CUDAEvent written;
  written.record(c10::cuda::getCurrentCUDAStream(t.get_device()));
  written.block(stream);
  check(ncclAllReduce(t.const_data_ptr(), t.mutable_data_ptr(), static_cast<std::size_t>(t.numel()),
                      type_of(t), ncclSum, communicator_, stream.stream()),
        "a sum over the ranks");
  c10::cuda::CUDACachingAllocator::recordStream(t.storage().data_ptr(), stream);
  return std::make_shared<SideStreamSum>(stream);
}

void NcclRanks::broadcast(const std::vector<OwnedTensor>& tensors) {
  const c10::cuda::CUDAGuard guard(tensors.front().tensor.device());
  check(ncclGroupStart(), "a broadcast");
  for (const auto& [tensor, owner] : tensors) {
    TORCH_INTERNAL_ASSERT(tensor.is_contiguous() && tensor.is_cuda());
    check(ncclBroadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), tensor.nbytes(),
                        ncclUint8, owner, communicator_,
                        c10::cuda::getCurrentCUDAStream(tensor.get_device()).stream()),
          "a broadcast");
  }
  check(ncclGroupEnd(), "a broadcast");
}

}  // namespace cresco::dist
