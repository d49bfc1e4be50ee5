#include "cresco/dist/mpi_ranks.h"

#include "cresco/base/require.h"
#ifdef CRESCO_CUDA
#include "cresco/dist/nccl_ranks.h"
#endif

#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <limits>
#include <list>
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

// A sum that is taken while the program computes. Open MPI's own (MPI_Iallreduce) sends every
// number to one rank and back where it works in place, so this sends numbers to whom they belong:
// rank r sums piece r, in order of rank, and sends the sum to all: 2 (R-1)/R numbers leave each
// rank, and every rank gets the same bits.
class PieceSum {
 public:
  PieceSum(const at::Tensor& t, int rank, int size, int tag)
      : t_(t.view(-1)), rank_(rank), size_(size), tag_(tag), type_(type_of(t)) {
    const at::Tensor own = piece(rank_);
    others_ = at::empty({size_ - 1, own.numel()}, own.options());
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      receive(others_[r < rank_ ? r : r - 1], r, tag_);
      send(piece(r), r, tag_);
    }
  }
  PieceSum(const PieceSum&) = delete;
  PieceSum& operator=(const PieceSum&) = delete;

  // Whether it is complete; moves on as far as it can without waiting.
  bool advance() {
    int all = 1;
    while (stage_ < 2) {
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all, MPI_STATUSES_IGNORE);
      if (!all) return false;
      next_stage();
    }
    return true;
  }

 private:
  at::Tensor piece(int r) const {
    const std::int64_t begin = t_.numel() * r / size_, end = t_.numel() * (r + 1) / size_;
    return t_.narrow(0, begin, end - begin);
  }
  int count_of(const at::Tensor& part) const {
    TORCH_INTERNAL_ASSERT(part.numel() <= std::numeric_limits<int>::max());
    return static_cast<int>(part.numel());
  }
  void send(const at::Tensor& part, int to, int tag) {
    requests_.emplace_back();
    MPI_Isend(part.const_data_ptr(), count_of(part), type_, to, tag, MPI_COMM_WORLD,
              &requests_.back());
  }
  void receive(const at::Tensor& part, int from, int tag) {
    requests_.emplace_back();
    MPI_Irecv(part.mutable_data_ptr(), count_of(part), type_, from, tag, MPI_COMM_WORLD,
              &requests_.back());
  }

  void next_stage() {
    requests_.clear();
    if (++stage_ == 2) return;
    const at::Tensor own = piece(rank_);
    if (rank_ > 0) {
      at::Tensor sum = others_[0];
      for (int r = 1; r < size_; ++r) sum.add_(r == rank_ ? own : others_[r < rank_ ? r : r - 1]);
      own.copy_(sum);
    } else {
      for (int r = 1; r < size_; ++r) own.add_(others_[r - 1]);
    }
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      receive(piece(r), r, tag_ + 1);
      send(own, r, tag_ + 1);
    }
  }

  at::Tensor t_, others_;
  int rank_, size_, tag_, stage_ = 0;
  MPI_Datatype type_;
  std::vector<MPI_Request> requests_;
};

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

  std::shared_ptr<Transfer> start_sum(const at::Tensor& t) override {
#ifdef CRESCO_CUDA
    if (t.is_cuda()) return nccl(t).start_sum(t);
#endif
    advance();
    // Messages between two ranks keep their order, but a sum's second round may overtake the first
    // of another.
    constexpr int kTags = 4096;
    const int tag = kFirstSumTag + 2 * static_cast<int>(num_sums_++ % kTags);
    running_.push_back(std::make_shared<PieceSum>(t, rank_, size_, tag));
    return std::make_shared<Sum>(*this, running_.back());
  }

  void broadcast(const std::vector<OwnedTensor>& tensors) override {
#ifdef CRESCO_CUDA
    if (!tensors.empty() && tensors.front().tensor.is_cuda())
      return nccl(tensors.front().tensor).broadcast(tensors);
#endif
    // All at once: each rank sends while it receives.
    std::vector<MPI_Request> requests;
    for (const auto& [tensor, owner] : tensors) {
      TORCH_INTERNAL_ASSERT(tensor.is_contiguous());
      auto* const data = static_cast<char*>(tensor.mutable_data_ptr());
      const auto bytes = static_cast<std::int64_t>(tensor.nbytes());
      for (std::int64_t begin = 0; begin < bytes; begin += kMostNumbers) {
        requests.emplace_back();
        MPI_Ibcast(data + begin, static_cast<int>(std::min(kMostNumbers, bytes - begin)), MPI_BYTE,
                   owner, MPI_COMM_WORLD, &requests.back());
      }
    }
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
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
    constexpr int kTag = 1;  // below kFirstSumTag
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
  static constexpr int kFirstSumTag = 16;

  // Ranks keep the sums under way: one that was given up by an error goes on until the program
  // ends.
  class Sum final : public Transfer {
   public:
    Sum(MpiRanks& ranks, std::shared_ptr<PieceSum> sum) : ranks_(ranks), sum_(std::move(sum)) {}
    void wait() override {
      // Of all: others may wait for what this rank has still to send.
      while (!sum_->advance()) ranks_.advance();
    }
    void advance() override { ranks_.advance(); }

   private:
    MpiRanks& ranks_;
    std::shared_ptr<PieceSum> sum_;
  };

  void advance() {
    running_.remove_if([](const auto& sum) { return sum->advance(); });
  }

  void reduce(const at::Tensor& t, MPI_Op operation) {
#ifdef CRESCO_CUDA
    if (t.is_cuda()) return nccl(t).reduce(t, operation == MPI_SUM);
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
  // On the GPU of the first tensor: a rank has one.
  NcclRanks& nccl(const at::Tensor& t) {
    const auto broadcast = [](void* bytes, std::size_t count) {
      MPI_Bcast(bytes, static_cast<int>(count), MPI_BYTE, 0, MPI_COMM_WORLD);
    };
    if (!nccl_) nccl_ = std::make_unique<NcclRanks>(rank_, size_, t.get_device(), broadcast);
    return *nccl_;
  }
  std::unique_ptr<NcclRanks> nccl_;
#endif
  int rank_ = 0, size_ = 1;
  std::int64_t num_sums_ = 0;
  std::list<std::shared_ptr<PieceSum>> running_;
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
