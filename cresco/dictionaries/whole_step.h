// The step of a crosscoder by whole products (kernels/crosscoder_whole.h): what runs on a GPU. It
// runs on the CPU as well, where tests compare it with the step by entries.
#pragma once

#include "cresco/dictionaries/crosscoder_step.h"

#include <memory>
#include <string>

namespace cresco::dictionaries {

// Bytes where that step computes, of B rows at most and K heads of width d: what stays from one
// update to the next (weights, moments, the arrays of a batch), and the most that comes and goes
// within one. TopK's and BatchTopK's are those of a sort of all pre-activations; AuxK's of all
// features dead.
struct StepBytes {
  double kept = 0, passing = 0;
};
StepBytes whole_step_bytes(const CrosscoderConfig& config, const Activation& activation,
                           std::int64_t B, std::int64_t K, std::int64_t d);

// UsageError for a training that this device cannot take: on a GPU kinds whose gradients come from
// autograd and optimizer sparse_adam, on the CPU amp_dtype tf32.
void check_device(at::Device device, const CrosscoderConfig& config, const Activation& activation);

// Numbers of the encoder's gradient that are there at a time: 256 MiB of floats.
inline constexpr std::int64_t kEncoderTileNumbers = std::int64_t{1} << 26;

// JumpRelu, TopK and BatchTopK with Adam or AdamW, on that device, to which `start` is copied; the
// rows that it loads have to be there. Which of several equal pre-activations TopK and BatchTopK
// keep is LibTorch's choice.
//
// amp_dtype on a GPU: fp32, all products in it; tf32, all of them from inputs of ten bits; bf16,
// the encoder's from bfloat16 and the others as with tf32. Sums and results are float.
std::unique_ptr<CrosscoderStep> make_whole_step(const CrosscoderConfig& config,
                                                const Activation& activation,
                                                const CrosscoderParameters& start,
                                                std::int64_t max_rows,
                                                std::int64_t tile_numbers = kEncoderTileNumbers,
                                                HeadShare share = {}, at::Device device = at::kCPU);

}  // namespace cresco::dictionaries
