// The step of a crosscoder by whole products (kernels/crosscoder_whole.h): what runs on a GPU. It
// runs on the CPU as well, where tests compare it with the step by entries.
#pragma once

#include "cresco/dictionaries/crosscoder_step.h"

#include <memory>
#include <string>

namespace cresco::dictionaries {

// UsageError for a training that this device cannot take: on a GPU kinds whose gradients come from
// autograd and optimizer sparse_adam, on the CPU amp_dtype tf32.
void check_device(at::Device device, const CrosscoderConfig& config, const Activation& activation);

// Numbers of the encoder's gradient that are there at a time: 256 MiB of floats.
inline constexpr std::int64_t kEncoderTileNumbers = std::int64_t{1} << 26;

// JumpRelu, TopK and BatchTopK with Adam or AdamW, on the device of `start`; the rows that it loads
// have to be there too. Which of several equal pre-activations TopK and BatchTopK keep is
// LibTorch's choice.
//
// amp_dtype on a GPU: fp32, all products in it; tf32, all of them from inputs of ten bits; bf16,
// the encoder's from bfloat16 and the others as with tf32. Sums and results are float.
std::unique_ptr<CrosscoderStep> make_whole_step(
    const CrosscoderConfig& config, const Activation& activation, const CrosscoderParameters& start,
    std::int64_t max_rows, std::int64_t tile_numbers = kEncoderTileNumbers, HeadShare share = {});

}  // namespace cresco::dictionaries
