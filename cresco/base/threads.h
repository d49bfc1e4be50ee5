// Work shared over threads. One setting for the whole program: --threads.
#pragma once

#include <cstdint>
#include <functional>

namespace cresco {

void set_num_threads(int count);  // 0: as many as this process may use
int num_threads();

// Calls task(i) for i in [0, n), in any order, on num_threads() threads, and returns when all are
// done. The first exception a task throws is thrown here; tasks not yet begun are then left out.
void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& task);

}  // namespace cresco
