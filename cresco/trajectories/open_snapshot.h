// A snapshot from the files that hold it. Headers are read and checked; weights are not.
//
// Links are followed when they stay inside `root` or lead into a Hugging Face hub cache
// (.../models--*/...), whose own layout they are; any other is an Error.
#pragma once

#include "cresco/trajectories/snapshot.h"

#include <optional>

namespace cresco::trajectories {

// A folder with config.json and, in Hugging Face's order of search, model.safetensors, its shards,
// pytorch_model.bin, its shards.
Snapshot open_model_folder(const Path& folder, std::int64_t step, const Path& root);

// A file of weights: safetensors or PyTorch's, with the config.json beside it when there is one;
// nanoGPT's ckpt.pt, which holds its model_args; llm.c's model file. A state dict without a config
// that has the shapes of a Pythia size gets that size's. When `step` is negative, the
// container's own (nanoGPT's iter_num) or 0.
Snapshot open_weights_file(const Path& file, std::int64_t step, const Path& root);

// Files <slug>_step<N>_{wu,we}.pt of one step: a matrix each, bare or under W_U, w_u, W_E or w_e.
Snapshot open_matrix_files(const std::vector<Path>& files, std::int64_t step, const Path& root);

// One step of a stack file: one matrix under the stack's name for it.
Snapshot open_stack_step(const Path& file, std::int64_t step);

// The one snapshot at `path`: a file, a model's folder, a hub cache's `main`, or whatever holds no
// more than one.
Snapshot open_snapshot(const Path& path);

// The step of a folder named after one; of a file in such a folder, negative when the container
// should say it.
std::optional<std::int64_t> step_of_name(const Path& path);
std::int64_t step_of_file(const Path& file);

// Whether a folder holds a model in Hugging Face's layout.
bool is_model_folder(const Path& folder);

// Whether a file begins as one of these containers does: PyTorch's, llm.c's, safetensors.
bool holds_weights(const Path& file);

// The file that a link leads to, after the check above.
Path follow_link(const Path& file, const Path& root);

}  // namespace cresco::trajectories
