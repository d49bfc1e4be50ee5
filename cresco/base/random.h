// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011), keyed by (seed, purpose, step). The i-th number of a stream is a function of
// the key and i alone: there is no generator state to save, and any part of a stream can be made
// again.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cresco {

// Ten rounds on one 128-bit counter with a 64-bit key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key);

class RandomStream {
 public:
  // `purpose` names what the numbers are for ("init/embed_in.weight", "order", "sample"), `step`
  // which instance of it. Streams of different keys are independent.
  RandomStream(std::uint64_t seed, std::string_view purpose, std::uint64_t step = 0);

  std::uint32_t next32();
  std::uint64_t next64();
  double uniform();                          // [0, 1), 53 bits
  std::uint64_t below(std::uint64_t bound);  // [0, bound), without bias; bound > 0
  double normal();                           // Box-Muller

  void fill_uniform(std::span<float> out, float low, float high);
  void fill_normal(std::span<float> out, float mean, float deviation);

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

// 0 .. n-1 in an order fixed by the stream (Fisher-Yates).
std::vector<std::uint32_t> permutation(std::uint32_t n, RandomStream stream);

}  // namespace cresco
