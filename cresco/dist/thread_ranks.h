// Ranks that are threads of one process: for tests.
#pragma once

#include "cresco/dist/ranks.h"

#include <ATen/ATen.h>

#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace cresco::dist {

class ThreadRanks {
 public:
  // Runs work(ranks) on `size` threads; the first exception of any is thrown when all have ended,
  // which they do only when none waits for one that threw.
  static void run(int size, const std::function<void(Ranks&)>& work) {
    Shared shared(size);
    std::vector<std::thread> threads;
    std::exception_ptr error;
    for (int r = 0; r < size; ++r)
      threads.emplace_back([&, r] {
        try {
          Rank rank(shared, r);
          work(rank);
        } catch (...) {
          error = std::current_exception();
          shared.barrier.arrive_and_drop();
        }
      });
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
  }

 private:
  struct Shared {
    explicit Shared(int size) : barrier(size), given(static_cast<std::size_t>(size)) {}
    std::barrier<> barrier;
    std::vector<at::Tensor> given;
    at::Tensor result;
  };

  class Rank final : public Ranks {
   public:
    Rank(Shared& shared, int rank) : shared_(shared), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(shared_.given.size()); }
    void sum(const at::Tensor& t) override {
      t.copy_(
          combined(t, [](const std::vector<at::Tensor>& all) { return at::stack(all).sum(0); }));
      wait_for_all();
    }
    void largest(const at::Tensor& t) override {
      t.copy_(
          combined(t, [](const std::vector<at::Tensor>& all) { return at::stack(all).amax(0); }));
      wait_for_all();
    }
    at::Tensor gather(const at::Tensor& own) override {
      const at::Tensor all =
          combined(own, [](const std::vector<at::Tensor>& parts) { return at::cat(parts); });
      wait_for_all();
      return first() ? all : at::Tensor();
    }
    void wait_for_all() override { shared_.barrier.arrive_and_wait(); }
    Host host() override { return {.ranks = size()}; }

   private:
    template <class Combine>
    at::Tensor combined(const at::Tensor& own, const Combine& combine) {
      shared_.given[static_cast<std::size_t>(rank_)] = own;
      wait_for_all();
      if (first()) shared_.result = combine(shared_.given);
      wait_for_all();
      return shared_.result;
    }
    Shared& shared_;
    int rank_;
  };
};

}  // namespace cresco::dist
