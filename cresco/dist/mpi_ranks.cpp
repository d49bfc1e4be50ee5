#include "cresco/dist/mpi_ranks.h"

#include "cresco/base/require.h"
#ifdef CRESCO_CUDA
#include "cresco/dist/nccl_ranks.h"
#endif

#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <vector>

namespace cresco::dist {
namespace {

MPI_Datatype type_of(const at::Tensor& t) {
  TORCH_INTERNAL_ASSERT(t.is_contiguous());
  switch (t.scalar_type()) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kLong:
      return MPI_INT64_T;
    default:
      TORCH_INTERNAL_ASSERT(false);
  }
}

// MPI counts with an int.
constexpr std::int64_t kMostNumbers = std::int64_t{1} << 28;

class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    int threads = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  // A rank that ends by an error has aborted before; here all come together.
  ~MpiRanks() override {
#ifdef CRESCO_CUDA
    nccl_.reset();
#endif
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(const at::Tensor& t) override { reduce(t, MPI_SUM); }
  void largest(const at::Tensor& t) override { reduce(t, MPI_MAX); }
  void wait_for_all() override { MPI_Barrier(MPI_COMM_WORLD); }
  Host host() override {
    MPI_Comm here = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &here);
    Host host;
    int least = rank_;
    MPI_Comm_size(here, &host.ranks);
    MPI_Bcast(&least, 1, MPI_INT, 0, here);  // in the order of their ranks
    MPI_Comm_free(&here);
    host.has_first = least == 0;
    return host;
  }

  at::Tensor gather(const at::Tensor& own) override {
    const at::Tensor part = own.contiguous().cpu();
    std::vector<std::int64_t> shape = part.sizes().vec();
    TORCH_INTERNAL_ASSERT(!shape.empty());
    shape[0] *= size_;
    at::Tensor all;
    if (first()) {
      all = at::empty(shape, part.options());
      all.narrow(0, 0, part.size(0)).copy_(part);
    }
    // One rank after the other, so that rank 0 needs no more than the result.
    const std::int64_t bytes = static_cast<std::int64_t>(part.nbytes());
    constexpr int kTag = 1;
    for (int from = 1; from < size_; ++from) {
      if (rank_ != 0 && rank_ != from) continue;
      auto* const data = first() ? static_cast<char*>(all.mutable_data_ptr()) + from * bytes
                                 : static_cast<char*>(part.mutable_data_ptr());
      for (std::int64_t begin = 0; begin < bytes; begin += kMostNumbers) {
        const int count = static_cast<int>(std::min(kMostNumbers, bytes - begin));
        if (first())
          MPI_Recv(data + begin, count, MPI_BYTE, from, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else
          MPI_Send(data + begin, count, MPI_BYTE, 0, kTag, MPI_COMM_WORLD);
      }
    }
    return all;
  }

 private:
  void reduce(const at::Tensor& t, MPI_Op operation) {
#ifdef CRESCO_CUDA
    if (t.is_cuda()) return nccl().reduce(t, operation == MPI_SUM);
#endif
    const MPI_Datatype type = type_of(t);
    auto* const data = static_cast<char*>(t.mutable_data_ptr());
    for (std::int64_t begin = 0; begin < t.numel(); begin += kMostNumbers)
      reduce(data + begin * t.element_size(),
             static_cast<int>(std::min(kMostNumbers, t.numel() - begin)), t.element_size(), type,
             operation);
  }

  // MPI_Allreduce may add in another order on each rank. Here every number is reduced on one rank
  // and sent to all: 2 (R-1)/R numbers leave each rank, as many as an all-reduce needs.
  void reduce(char* data, int count, std::int64_t number_bytes, MPI_Datatype type,
              MPI_Op operation) {
    constexpr int kSmall = 4096;
    if (count < kSmall) {
      if (first())
        MPI_Reduce(MPI_IN_PLACE, data, count, type, operation, 0, MPI_COMM_WORLD);
      else
        MPI_Reduce(data, nullptr, count, type, operation, 0, MPI_COMM_WORLD);
      MPI_Bcast(data, count, type, 0, MPI_COMM_WORLD);
      return;
    }
    std::vector<int> counts(static_cast<std::size_t>(size_), count / size_),
        begins(static_cast<std::size_t>(size_), 0);
    for (int r = 0; r < count % size_; ++r) ++counts[static_cast<std::size_t>(r)];
    for (std::size_t r = 1; r < counts.size(); ++r) begins[r] = begins[r - 1] + counts[r - 1];
    const auto own = static_cast<std::size_t>(rank_);
    part_.resize(static_cast<std::size_t>(counts[0]) * static_cast<std::size_t>(number_bytes));
    MPI_Reduce_scatter(data, part_.data(), counts.data(), type, operation, MPI_COMM_WORLD);
    MPI_Allgatherv(part_.data(), counts[own], type, data, counts.data(), begins.data(), type,
                   MPI_COMM_WORLD);
  }

#ifdef CRESCO_CUDA
  NcclRanks& nccl() {
    if (!nccl_)
      nccl_ = std::make_unique<NcclRanks>(rank_, size_, [](void* bytes, std::size_t count) {
        MPI_Bcast(bytes, static_cast<int>(count), MPI_BYTE, 0, MPI_COMM_WORLD);
      });
    return *nccl_;
  }
  std::unique_ptr<NcclRanks> nccl_;
#endif
  int rank_ = 0, size_ = 1;
  std::vector<char> part_;  // kept, so that a step allocates nothing
};

}  // namespace

Ranks& mpi_ranks() {
  static MpiRanks ranks;
  return ranks;
}

void abort_mpi(int exit_code) {
  int joined = 0, left = 0;
  MPI_Initialized(&joined);
  MPI_Finalized(&left);
  if (joined && !left) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

}  // namespace cresco::dist
