#include "cresco/dist/nccl_ranks.h"

#include "cresco/base/require.h"

#include <c10/cuda/CUDAStream.h>

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

}  // namespace

NcclRanks::NcclRanks(int rank, int size, const Broadcast& broadcast) {
  ncclUniqueId id{};
  if (rank == 0) check(ncclGetUniqueId(&id), "an id for the ranks");
  broadcast(&id, sizeof id);
  check(ncclCommInitRank(&communicator_, size, id, rank), "joining the ranks");
}

NcclRanks::~NcclRanks() { ncclCommDestroy(communicator_); }

void NcclRanks::reduce(const at::Tensor& t, bool sum) {
  const auto stream = c10::cuda::getCurrentCUDAStream(t.get_device());
  check(ncclAllReduce(t.const_data_ptr(), t.mutable_data_ptr(), static_cast<std::size_t>(t.numel()),
                      type_of(t), sum ? ncclSum : ncclMax, communicator_, stream.stream()),
        "a sum over the ranks");
}

}  // namespace cresco::dist
