// Ranks that are threads of one process: for tests.
#pragma once

#include "cresco/dist/ranks.h"

#include <ATen/ATen.h>

#include <barrier>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
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
    explicit Shared(int size)
        : barrier(size), given(static_cast<std::size_t>(size)), owned(given.size()) {}
    std::barrier<> barrier;
    std::vector<at::Tensor> given;
    std::vector<const std::vector<OwnedTensor>*> owned;
    at::Tensor result;
    // Sums under way, by their number.
    struct Sum {
      std::vector<at::Tensor> given;  // by rank
      std::size_t num_given = 0, num_taken = 0;
    };
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::int64_t, Sum> sums;
  };

  // The tensor changes in wait(), no sooner: a reader that does not wait is found out.
  class SumTransfer final : public Transfer {
   public:
    SumTransfer(Shared& shared, std::int64_t number, at::Tensor t)
        : shared_(shared), number_(number), t_(std::move(t)) {}
    void wait() override {
      if (!t_.defined()) return;
      std::unique_lock lock(shared_.mutex);
      auto& sum = shared_.sums[number_];
      shared_.changed.wait(lock, [&] { return sum.num_given == sum.given.size(); });
      t_.copy_(sum.given[0]);
      for (std::size_t r = 1; r < sum.given.size(); ++r) t_.add_(sum.given[r]);
      t_ = at::Tensor();
      if (++sum.num_taken == sum.given.size()) shared_.sums.erase(number_);
    }

   private:
    Shared& shared_;
    std::int64_t number_;
    at::Tensor t_;
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
    std::shared_ptr<Transfer> start_sum(const at::Tensor& t) override {
      const std::int64_t number = num_sums_++;
      const std::lock_guard lock(shared_.mutex);
      auto& sum = shared_.sums[number];
      sum.given.resize(shared_.given.size());
      sum.given[static_cast<std::size_t>(rank_)] = t.clone();
      ++sum.num_given;
      shared_.changed.notify_all();
      return std::make_shared<SumTransfer>(shared_, number, t);
    }
    void broadcast(const std::vector<OwnedTensor>& tensors) override {
      shared_.owned[static_cast<std::size_t>(rank_)] = &tensors;
      wait_for_all();
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const int owner = tensors[i].owner;
        if (owner != rank_)
          tensors[i].tensor.copy_((*shared_.owned[static_cast<std::size_t>(owner)])[i].tensor);
      }
      wait_for_all();
    }
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
    std::int64_t num_sums_ = 0;
  };
};

}  // namespace cresco::dist
