#include "cresco/dist/ranks.h"

#include "cresco/dist/mpi_ranks.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <memory>

namespace cresco::dist {
namespace {

class Finished final : public Transfer {
 public:
  void wait() override {}
};

class OneRank final : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void sum(const at::Tensor&) override {}
  void largest(const at::Tensor&) override {}
  at::Tensor gather(const at::Tensor& own) override { return own; }
  void wait_for_all() override {}
  std::shared_ptr<Transfer> start_sum(const at::Tensor&) override {
    return std::make_shared<Finished>();
  }
  void broadcast(const std::vector<OwnedTensor>&) override {}
  Host host() override { return {}; }
};

}  // namespace

double Ranks::sum_of(double number) {
  if (size() == 1) return number;
  const at::Tensor t = at::full({1}, number, at::kDouble);
  sum(t);
  return t.item<double>();
}

std::int64_t Ranks::largest_of(std::int64_t number) {
  if (size() == 1) return number;
  const at::Tensor t = at::full({1}, number, at::kLong);
  largest(t);
  return t.item<std::int64_t>();
}

Ranks& one_rank() {
  static OneRank one;
  return one;
}

int started_ranks() {
  // Open MPI's name, and those of process managers that start others (MPICH's, Slurm's).
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* size = std::getenv(name)) return std::max(1, std::atoi(size));
  return 1;
}

int rank_on_host() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
    if (const char* rank = std::getenv(name)) return std::max(0, std::atoi(rank));
  return 0;
}

Ranks& world() {
  if (started_ranks() == 1) return one_rank();
  return mpi_ranks();
}

void give_up(int exit_code) {
  if (started_ranks() > 1) abort_mpi(exit_code);
}

}  // namespace cresco::dist
