// Initial weights and the order of rows, from one of two generators:
//   philox  counter-based: every number is a function of (seed, what it is for, position)
//   torch   the streams that PyTorch draws on the CPU, for comparison with runs of other programs.
//   Two
//           mt19937 generators seeded alike: one gives the encoder's uniforms, then the decoder's;
//           the other one permutation per epoch, its state carried on from epoch to epoch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <random>
#include <string>

namespace cresco::dictionaries {

enum class RandomKind { Philox, Torch };
RandomKind random_kind(
    const std::string& name);  // UsageError for anything but "philox" and "torch"

struct InitialMatrices {
  at::Tensor encoder_DF;  // uniform in [-1/sqrt(D), 1/sqrt(D))
  at::Tensor decoder_FD;  // uniform in [-1/sqrt(F), 1/sqrt(F))
};
InitialMatrices draw_initial_matrices(RandomKind kind, std::uint64_t seed, std::int64_t width,
                                      std::int64_t num_features);

// PyTorch's CPU streams. mt19937 with its standard seeding, 32-bit outputs z in order:
//   randperm   for i = 0 .. n-2 swap element i of the identity with element i + z mod (n - i)
//   uniform    (z mod 2^24) 2^-24 (high - low) + low, in double, with high - low rounded to float
at::Tensor torch_randperm(std::mt19937& generator, std::int64_t n);
void torch_uniform(std::mt19937& generator, at::Tensor& out, float low, float high);

class RowOrder {
 public:
  RowOrder(RandomKind kind, std::uint64_t seed, std::int64_t num_rows);
  // The order of the rows in that epoch, int64 (V). With `torch` an earlier epoch replays the
  // stream.
  at::Tensor of_epoch(std::int64_t epoch);

 private:
  RandomKind kind_;
  std::uint64_t seed_;
  std::int64_t num_rows_;
  std::mt19937 generator_;
  std::int64_t next_epoch_ = 0;
};

}  // namespace cresco::dictionaries
