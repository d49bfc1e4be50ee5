#include "cresco/base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace cresco {
namespace {

TEST(ParallelFor, DoesEachTaskOnce) {
  std::vector<std::atomic<int>> count(1000);
  parallel_for(1000, [&](std::int64_t i) { ++count[static_cast<std::size_t>(i)]; });
  for (const auto& c : count) EXPECT_EQ(c, 1);
}

TEST(ParallelFor, PassesAnExceptionOn) {
  EXPECT_THROW(parallel_for(100,
                            [](std::int64_t i) {
                              if (i == 50) throw std::runtime_error("x");
                            }),
               std::runtime_error);
}

}  // namespace
}  // namespace cresco
