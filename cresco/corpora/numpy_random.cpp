#include "cresco/corpora/numpy_random.h"

#include "cresco/base/require.h"

#include <numeric>

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

std::uint64_t NumpyRandom::next64() {
  const std::uint64_t high = next32();
  return high << 32 | next32();
}

std::uint64_t NumpyRandom::up_to(std::uint64_t max) {
  return numpy_up_to(
      max, [this] { return next32(); }, [this] { return next64(); });
}

namespace {

// numpy's SeedSequence (after O'Neill's seed_seq_fe128): the seed's 32-bit words are hashed into a
// pool of four, which are mixed with each other and hashed out again.
class SeedSequence {
 public:
  explicit SeedSequence(std::uint64_t seed) {
    const std::array<std::uint32_t, 4> words{static_cast<std::uint32_t>(seed),
                                             static_cast<std::uint32_t>(seed >> 32)};
    std::uint32_t hash = 0x43b0d7e5u;
    const auto hash_in = [&hash](std::uint32_t value) {
      value ^= hash;
      hash *= 0x931e8875u;
      value *= hash;
      return value ^ (value >> 16);
    };
    for (std::size_t i = 0; i < pool_.size(); ++i) pool_[i] = hash_in(words[i]);
    for (std::size_t from = 0; from < pool_.size(); ++from)
      for (std::size_t to = 0; to < pool_.size(); ++to) {
        if (from == to) continue;
        const std::uint32_t mixed = 0xca01f9ddu * pool_[to] - 0x4973f715u * hash_in(pool_[from]);
        pool_[to] = mixed ^ (mixed >> 16);
      }
  }

  std::array<std::uint64_t, 4> numbers() const {
    std::array<std::uint64_t, 4> out{};
    std::uint32_t hash = 0x8b51f9ddu;
    for (std::size_t i = 0; i < 8; ++i) {
      std::uint32_t value = pool_[i % pool_.size()] ^ hash;
      hash *= 0x58f38dedu;
      value *= hash;
      value ^= value >> 16;
      out[i / 2] |= std::uint64_t{value} << (32 * (i % 2));
    }
    return out;
  }

 private:
  std::array<std::uint32_t, 4> pool_{};
};

unsigned __int128 joined(std::uint64_t high, std::uint64_t low) {
  return static_cast<unsigned __int128>(high) << 64 | low;
}

}  // namespace

NumpyGenerator::NumpyGenerator(std::int64_t seed) {
  require_usage(seed >= 0, "seed {} of numpy's generator, expected 0 or more", seed);
  const auto numbers = SeedSequence(static_cast<std::uint64_t>(seed)).numbers();
  increment_ = joined(numbers[2], numbers[3]) << 1 | 1;
  next64();  // from state 0, then on from the seed's
  state_ += joined(numbers[0], numbers[1]);
  next64();
}

std::uint64_t NumpyGenerator::next64() {
  state_ = state_ * joined(0x2360ed051fc65da4u, 0x4385df649fccf645u) + increment_;
  const auto high = static_cast<std::uint64_t>(state_ >> 64);
  return std::rotr(high ^ static_cast<std::uint64_t>(state_), static_cast<int>(high >> 58));
}

std::uint32_t NumpyGenerator::next32() {
  if (has_half_) {
    has_half_ = false;
    return half_;
  }
  const std::uint64_t both = next64();
  has_half_ = true;
  half_ = static_cast<std::uint32_t>(both >> 32);
  return static_cast<std::uint32_t>(both);
}

std::uint64_t NumpyGenerator::up_to(std::uint64_t max) {
  return numpy_up_to(
      max, [this] { return next32(); }, [this] { return next64(); });
}

std::vector<std::uint32_t> NumpyGenerator::permutation(std::uint32_t n) {
  std::vector<std::uint32_t> values(n);
  std::iota(values.begin(), values.end(), 0u);
  numpy_shuffle(*this, std::span(values));
  return values;
}

}  // namespace cresco::corpora
