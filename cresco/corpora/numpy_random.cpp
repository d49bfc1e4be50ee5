#include "cresco/corpora/numpy_random.h"

#include "cresco/base/require.h"

#include <bit>

namespace cresco::corpora {

NumpyRandom::NumpyRandom(std::int64_t seed) {
  require_usage(seed >= 0 && seed <= std::int64_t{UINT32_MAX},
                "seed {} of numpy's generator, expected 0 to 2^32 - 1", seed);
  state_[0] = static_cast<std::uint32_t>(seed);
  for (std::uint32_t i = 1; i < state_.size(); ++i)
    state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
}

// The next 624 words, in place: word i becomes a mix of itself, its neighbour and word i + 397.
void NumpyRandom::refill() {
  constexpr std::size_t n = 624, m = 397;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t mixed = (state_[i] & 0x80000000u) | (state_[(i + 1) % n] & 0x7fffffffu);
    state_[i] = state_[(i + m) % n] ^ (mixed >> 1) ^ (mixed & 1u ? 0x9908b0dfu : 0u);
  }
  used_ = 0;
}

std::uint32_t NumpyRandom::next32() {
  if (used_ == state_.size()) refill();
  std::uint32_t x = state_[used_++];
  x ^= x >> 11;
  x ^= (x << 7) & 0x9d2c5680u;
  x ^= (x << 15) & 0xefc60000u;
  return x ^ (x >> 18);
}

std::uint64_t NumpyRandom::up_to(std::uint64_t max) {
  if (max == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(max);
  for (;;) {
    std::uint64_t draw = next32();
    if (max > UINT32_MAX) draw = draw << 32 | next32();
    if ((draw & mask) <= max) return draw & mask;
  }
}

}  // namespace cresco::corpora
