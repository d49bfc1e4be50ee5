// Processes that share one piece of work, each with its rank: started by `mpirun -n N`, or one
// alone, which is the plain case. Every rank has to make the same calls in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace cresco::dist {

// Something under way between ranks. Until wait() has returned its tensor is neither read nor
// written by anyone else.
class Transfer {
 public:
  virtual ~Transfer() = default;
  virtual void wait() = 0;
  // Does what can be done without waiting. Ranks that share no progress thread (MPI's) move data in
  // calls only: call this now and then while computing.
  virtual void advance() {}
};

// A tensor whose numbers one rank has; it has the same size on every rank.
struct OwnedTensor {
  at::Tensor tensor;
  int owner = 0;
};

// The machine that a rank runs on: how many ranks do, and whether the first of all is one of them.
struct Host {
  int ranks = 1;
  bool has_first = true;
};

class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Element by element over all ranks, in place; every rank gets the same bits. Tensors are
  // contiguous, of the same size everywhere, float, double or int64.
  virtual void sum(const at::Tensor& t) = 0;
  virtual void largest(const at::Tensor& t) = 0;
  // All ranks' tensors one below the other, in order of rank: on rank 0; elsewhere undefined.
  virtual at::Tensor gather(const at::Tensor& own) = 0;
  virtual void wait_for_all() = 0;
  virtual Host host() = 0;

  // As sum(), but only begun: every rank begins the same sums in the same order, and may compute
  // meanwhile. The numbers are added in order of rank.
  //
  // What overlaps: on GPUs all of it, on a stream of its own. With MPI on CPUs messages start at
  // once, but large ones move (and sums are taken) inside calls of this class only: of start_sum,
  // wait and advance of any transfer. Between processes of one machine the copying itself is work
  // of the CPU, so that there is little to win; over a network the wires work meanwhile.
  virtual std::shared_ptr<Transfer> start_sum(const at::Tensor& t) = 0;
  // Every rank gets the owner's numbers. Contiguous tensors of any type, the same list everywhere.
  virtual void broadcast(const std::vector<OwnedTensor>& tensors) = 0;

  bool first() const { return rank() == 0; }
  double sum_of(double number);
  std::int64_t largest_of(std::int64_t number);
  std::int64_t least_of(std::int64_t number) { return -largest_of(-number); }
};

Ranks& one_rank();
// The ranks that mpirun started, or one. The first call joins them; the program leaves when it
// ends.
Ranks& world();

// This rank has failed and has said why: the others cannot go on without it and are ended, too.
// Does nothing where there is one rank.
void give_up(int exit_code);
// How many processes started this one as one of several; 1 without mpirun. Joins nothing.
int started_ranks();
// Which of those on its machine this one is, from 0: the GPU it takes. Joins nothing.
int rank_on_host();

}  // namespace cresco::dist
