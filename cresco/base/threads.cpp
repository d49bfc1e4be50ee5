#include "cresco/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace cresco {
namespace {

int usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

std::atomic<int> thread_count{0};

}  // namespace

void set_num_threads(int count) { thread_count = count; }

int num_threads() { return thread_count > 0 ? thread_count.load() : usable_processors(); }

void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& task) {
  const auto workers = static_cast<int>(std::min<std::int64_t>(num_threads(), n));
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&] {
    for (std::int64_t i; (i = next++) < n;) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        next = n;
      }
    }
  };
  // Threads are started for each call: tasks are files, shards and blocks of rows, milliseconds at
  // least, and a start costs some 20 microseconds.
  std::vector<std::jthread> threads;
  for (int i = 1; i < workers; ++i) threads.emplace_back(work);
  work();
  threads.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cresco
