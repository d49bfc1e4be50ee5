#include "cresco/base/worker.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

namespace cresco {
namespace {

TEST(Worker, DoesJobsInOrder) {
  std::vector<int> done;
  Worker worker;
  for (int i = 0; i < 100; ++i) worker.submit([&done, i] { done.push_back(i); });
  worker.wait();
  ASSERT_EQ(done.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
}

TEST(Worker, GoesOnWhileItsOwnerDoes) {
  Worker worker;
  std::promise<void> release;
  std::atomic<bool> done{false};
  worker.submit([&, gate = release.get_future().share()] {
    gate.wait();
    done = true;
  });
  EXPECT_FALSE(done);  // submit() came back before the job ended
  release.set_value();
  worker.wait();
  EXPECT_TRUE(done);
}

TEST(Worker, SaysWhatAJobThrewAndDoesNoMore) {
  Worker worker;
  bool later = false;
  worker.submit([] { fail("the disk is full"); });
  EXPECT_THROW(worker.wait(), Error);
  EXPECT_THROW(worker.submit([&] { later = true; }), Error);
  EXPECT_THROW(worker.wait(), Error);
  EXPECT_FALSE(later);
}

TEST(Worker, EndsAfterWhatIsLeft) {
  int done = 0;
  {
    Worker worker;
    worker.submit([&] { ++done; });
    worker.submit([&] { ++done; });
  }
  EXPECT_EQ(done, 2);
}

}  // namespace
}  // namespace cresco
