// Matrices of every snapshot into stacks, streamed: a piece of one matrix is in memory at a time.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/trajectories/trajectory.h"

#include <string>
#include <vector>

namespace cresco::trajectories {

struct ExtractConfig {
  std::string matrix = "W_U", steps = "all", dtype;
  bool fold_ln = false;

  void fields(FieldVisitor& v) {
    v.field("matrix", matrix,
            "W_U (readout), W_E (input embedding), W_in.3, W_Q.3, W_QK.3.5, ln_final.w, a tensor's "
            "name, or a pattern (W_out.*), which writes one stack a matrix into the folder --out");
    v.field("steps", steps,
            "list, range (0:1000:100) or preset (all, log2, pythia, pythia-32, ...)");
    v.field("dtype", dtype, "fp32 | bf16 | fp16; empty is the type of the files");
    v.field("fold_ln", fold_ln,
            "W_U with the final norm folded in: W_U diag(gain), and beside it W_U bias");
  }
};

struct ExtractedMatrix {
  std::string matrix;
  Path out;
  std::vector<std::int64_t> shape;  // of each step
  std::vector<std::string> sha256;  // of the bytes it was made from, step by step
};
struct Extracted {
  std::vector<std::int64_t> steps;
  std::vector<ExtractedMatrix> matrices;  // of a pattern all that match it
};

// What extract() would read: every header is checked, nothing is written.
Extracted plan_extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out);

// `out` is the stack's file, for a pattern the folder of the stacks. Vectors are stored as (1, n).
// W_QK.l.h is W_Q^T W_K and W_OV.l.h is W_O W_V of head h of layer l, both (width, width) and
// computed in double: without rotary, norms, biases and the 1/sqrt(head size), as their stacks'
// notes say. A call that was killed or interrupted goes on with the next step that is missing.
Extracted extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out,
                  Progress& progress, const std::string& resume_command);

}  // namespace cresco::trajectories
