#include "cresco/base/worker.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace cresco {

struct Worker::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;  // the first of them is being done
  std::exception_ptr error;
  bool ends = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return ends || !jobs.empty(); });
      if (jobs.empty()) return;
      if (!error) {
        const std::function<void()>& job = jobs.front();
        lock.unlock();
        std::exception_ptr thrown;
        try {
          job();
        } catch (...) {
          thrown = std::current_exception();
        }
        lock.lock();
        if (thrown) error = thrown;
      }
      jobs.pop_front();
      changed.notify_all();
    }
  }

  void wait_for(std::size_t most, std::unique_lock<std::mutex>& lock) {
    changed.wait(lock, [&] { return jobs.size() <= most; });
    if (error) std::rethrow_exception(error);
  }
};

Worker::Worker() : state_(std::make_unique<State>()) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Worker::~Worker() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ends = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

void Worker::submit(std::function<void()> job) {
  std::unique_lock lock(state_->mutex);
  state_->wait_for(1, lock);
  state_->jobs.push_back(std::move(job));
  state_->changed.notify_all();
}

void Worker::wait() {
  std::unique_lock lock(state_->mutex);
  state_->wait_for(0, lock);
}

}  // namespace cresco
