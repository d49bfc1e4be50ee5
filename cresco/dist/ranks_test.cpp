#include "cresco/dist/ranks.h"

#include "cresco/dist/thread_ranks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace cresco::dist {
namespace {

// What rank r has: numbers whose sum in float depends on the order of the ranks.
at::Tensor numbers(int r, std::int64_t count) {
  return at::arange(count, at::kDouble).add(1 + 7 * r).sin().mul(1 + r * 1e-3).to(at::kFloat);
}
at::Tensor sum_in_order(int size, std::int64_t count) {
  at::Tensor sum = numbers(0, count);
  for (int r = 1; r < size; ++r) sum.add_(numbers(r, count));
  return sum;
}

// The contract of Ranks, whatever their kind and number. gtest takes EXPECTs of any thread.
void expect_the_contract(Ranks& ranks) {
  const int size = ranks.size(), rank = ranks.rank();
  // Sizes below, at and above the number of ranks, and one that is cut unevenly. The sums are
  // waited for in another order than they were begun in.
  const std::vector<std::int64_t> counts{1, size, 1000003, 4097, 77};
  std::vector<at::Tensor> tensors;
  std::vector<std::shared_ptr<Transfer>> sums;
  for (const std::int64_t count : counts) {
    tensors.push_back(numbers(rank, count));
    sums.push_back(ranks.start_sum(tensors.back()));
    sums.front()->advance();
  }
  for (const std::size_t i : {2, 0, 4, 3, 1}) {
    sums[i]->wait();
    EXPECT_TRUE(at::equal(tensors[i], sum_in_order(size, counts[i]))) << counts[i];
    sums[i]->wait();  // once more changes nothing
  }
  EXPECT_TRUE(at::equal(tensors[2], sum_in_order(size, counts[2])));

  // One that nobody waits for disturbs none of those that follow.
  const at::Tensor forgotten = numbers(rank, 50);
  ranks.start_sum(forgotten);
  at::Tensor next = numbers(rank, 50).mul(2);
  ranks.start_sum(next)->wait();
  EXPECT_TRUE(at::allclose(next, sum_in_order(size, 50).mul(2)));

  // A tensor of each rank and two of the last; any type.
  std::vector<OwnedTensor> owned;
  for (int r = 0; r < size; ++r) owned.push_back({numbers(rank, 5000 + r), r});
  owned.push_back({at::full({3}, rank, at::kShort), size - 1});
  owned.push_back({at::full({}, rank, at::kDouble), size - 1});
  ranks.broadcast(owned);
  for (int r = 0; r < size; ++r)
    EXPECT_TRUE(at::equal(owned[static_cast<std::size_t>(r)].tensor, numbers(r, 5000 + r)));
  EXPECT_TRUE(
      at::equal(owned[static_cast<std::size_t>(size)].tensor, at::full({3}, size - 1, at::kShort)));
  EXPECT_EQ(owned.back().tensor.item<double>(), size - 1);

  EXPECT_EQ(ranks.sum_of(rank + 1), size * (size + 1) / 2.0);
  EXPECT_EQ(ranks.largest_of(rank), size - 1);
  EXPECT_EQ(ranks.least_of(rank), 0);
}

TEST(Ranks, Threads) {
  for (const int size : {1, 2, 4})
    ThreadRanks::run(size, [](Ranks& ranks) { expect_the_contract(ranks); });
}

// Started by mpirun: as many processes; else one.
TEST(World, Collectives) {
  expect_the_contract(world());
  expect_the_contract(world());
}

}  // namespace
}  // namespace cresco::dist
