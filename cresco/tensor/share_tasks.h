// Tasks for LibTorch's threads: each goes to whichever is free.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace cresco::tensor {

// task(0) to task(count - 1), each once.
template <class Task>
void share_tasks(std::int64_t count, const Task& task) {
  std::atomic<std::int64_t> next{0};
  at::parallel_for(0, std::min<std::int64_t>(at::get_num_threads(), count), 1,
                   [&](std::int64_t, std::int64_t) {
                     for (std::int64_t i; (i = next++) < count;) task(i);
                   });
}

}  // namespace cresco::tensor
