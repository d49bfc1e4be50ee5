#include "cresco/base/random.h"

#include <cmath>
#include <numeric>
#include <utility>

namespace cresco {
namespace {

// FNV-1a: purposes are short names of our own; what matters is that different names differ.
std::uint64_t name_hash(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// splitmix64's finaliser, so that neighbouring seeds give unrelated keys.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

RandomStream::RandomStream(std::uint64_t seed, std::string_view purpose, std::uint64_t step) {
  const std::uint64_t key = mix(seed + 0x9e3779b97f4a7c15) ^ name_hash(purpose);
  key_ = {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
  counter_ = {0, 0, static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32)};
}

std::uint32_t RandomStream::next32() {
  if (used_ == 4) {
    block_ = philox(counter_, key_);
    if (++counter_[0] == 0) ++counter_[1];
    used_ = 0;
  }
  return block_[static_cast<std::size_t>(used_++)];
}

std::uint64_t RandomStream::next64() {
  const std::uint64_t low = next32();
  return low | (std::uint64_t{next32()} << 32);
}

double RandomStream::uniform() { return static_cast<double>(next64() >> 11) * 0x1p-53; }

std::uint64_t RandomStream::below(std::uint64_t bound) {
  // Rejects the few draws past the last whole multiple of `bound`.
  const std::uint64_t limit = -bound % bound;
  for (;;) {
    const std::uint64_t draw = next64();
    if (draw >= limit) return draw % bound;
  }
}

double RandomStream::normal() {
  if (std::exchange(has_spare_, false)) return spare_;
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  const double angle = 2.0 * 3.14159265358979323846 * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

void RandomStream::fill_uniform(std::span<float> out, float low, float high) {
  for (float& x : out) x = low + (high - low) * static_cast<float>(next32() >> 8) * 0x1p-24f;
}

void RandomStream::fill_normal(std::span<float> out, float mean, float deviation) {
  for (float& x : out) x = mean + deviation * static_cast<float>(normal());
}

std::vector<std::uint32_t> permutation(std::uint32_t n, RandomStream stream) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  for (std::uint32_t i = n; i > 1; --i) std::swap(order[i - 1], order[stream.below(i)]);
  return order;
}

}  // namespace cresco
