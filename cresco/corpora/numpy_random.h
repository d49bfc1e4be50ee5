// The random numbers of numpy's RandomState and of its newer Generator, bit for bit: corpora that
// numpy shuffled can be put in the same order again.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace cresco::corpora {

// A number of 0 to `max`, both included: draws are cut to the bits that `max` needs and repeated
// until they don't exceed it. `next32` and `next64` draw 32 and 64 bits.
template <class Next32, class Next64>
std::uint64_t numpy_up_to(std::uint64_t max, const Next32& next32, const Next64& next64) {
  if (max == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(max);
  for (;;) {
    const std::uint64_t draw = (max > UINT32_MAX ? next64() : next32()) & mask;
    if (draw <= max) return draw;
  }
}

// numpy's shuffle of a one-dimensional array: from the last place down, each is swapped with one
// of those before it or itself.
template <class Random, class Value>
void numpy_shuffle(Random& random, std::span<Value> values) {
  for (std::size_t i = values.size(); i-- > 1;)
    std::swap(values[i], values[static_cast<std::size_t>(random.up_to(i))]);
}

// numpy.random.RandomState(seed): a Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) whose
// 624 words come from the seed by Knuth's recurrence x' = 1812433253 (x ^ x >> 30) + i. That is
// what an integer seed does; only seeds that are arrays go through the longer initialisation.
class NumpyRandom {
 public:
  explicit NumpyRandom(std::int64_t seed);  // UsageError unless 0 to 2^32 - 1, numpy's own limits

  std::uint32_t next32();

  std::uint64_t next64();  // two numbers, the first one's bits on top
  std::uint64_t up_to(std::uint64_t max);

  template <class Value>
  void shuffle(std::span<Value> values) {
    numpy_shuffle(*this, values);
  }

 private:
  void refill();

  std::array<std::uint32_t, 624> state_;
  std::size_t used_ = 624;
};

// numpy.random.default_rng(seed): PCG64, the 128-bit linear congruential generator with the XSL-RR
// output of O'Neill (2014), seeded by numpy's SeedSequence.
class NumpyGenerator {
 public:
  // UsageError for a seed below 0, as in numpy.
  explicit NumpyGenerator(std::int64_t seed);

  std::uint64_t next64();
  std::uint32_t next32();  // half of a 64-bit number: its low half first, then its high one
  std::uint64_t up_to(std::uint64_t max);

  // Generator.permutation(n).
  std::vector<std::uint32_t> permutation(std::uint32_t n);

 private:
  unsigned __int128 state_ = 0, increment_ = 0;
  bool has_half_ = false;
  std::uint32_t half_ = 0;
};

}  // namespace cresco::corpora
