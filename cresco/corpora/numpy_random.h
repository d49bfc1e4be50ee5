// The random numbers of numpy's RandomState, bit for bit: corpora that numpy shuffled can be put in
// the same order again.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>

namespace cresco::corpora {

// numpy.random.RandomState(seed): a Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) whose
// 624 words come from the seed by Knuth's recurrence x' = 1812433253 (x ^ x >> 30) + i. That is
// what an integer seed does; only seeds that are arrays go through the longer initialisation.
class NumpyRandom {
 public:
  explicit NumpyRandom(std::int64_t seed);  // UsageError unless 0 to 2^32 - 1, numpy's own limits

  std::uint32_t next32();

  // A number of 0 to `max`, both included: draws are cut to the bits that `max` needs and repeated
  // until they don't exceed it. Above 2^32 - 1 a draw is two numbers, the first one's bits on top.
  std::uint64_t up_to(std::uint64_t max);

  // numpy's shuffle of a one-dimensional array: from the last place down, each is swapped with one
  // of those before it or itself.
  template <class Value>
  void shuffle(std::span<Value> values) {
    for (std::size_t i = values.size(); i-- > 1;)
      std::swap(values[i], values[static_cast<std::size_t>(up_to(i))]);
  }

 private:
  void refill();

  std::array<std::uint32_t, 624> state_;
  std::size_t used_ = 624;
};

}  // namespace cresco::corpora
