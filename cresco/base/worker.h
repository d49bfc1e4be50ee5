// A thread that does jobs one after the other while its owner goes on.
#pragma once

#include <functional>
#include <memory>

namespace cresco {

class Worker {
 public:
  Worker();
  ~Worker();  // does what is left first; what a job throws then is lost, so wait() before
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Waits while another job stands in line, so that never more than one waits and one is done.
  // Throws what an earlier job threw; from then on nothing more is done.
  void submit(std::function<void()> job);
  // Until every job is done. Throws what one of them threw, each time.
  void wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cresco
