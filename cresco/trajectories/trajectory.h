// A trajectory: all snapshots of one training, opened from any layout we know.
#pragma once

#include "cresco/trajectories/snapshot.h"

#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

class Trajectory {
 public:
  // Recognises the layout; Error that says what was looked for when none fits.
  explicit Trajectory(const Path& path);

  const Path& path() const { return path_; }
  const std::string& layout() const { return layout_; }  // run | hf_steps
  std::string model() const;                             // what the run or folder is called
  const std::vector<std::int64_t>& steps() const { return steps_; }  // ascending
  Snapshot open(std::int64_t step) const;
  // tokenizer.json of the trajectory, when it has one.
  std::optional<Path> tokenizer() const;

 private:
  Path path_, snapshots_;
  std::string layout_;
  std::vector<std::int64_t> steps_;
};

// A snapshot given by its own folder: `runs/demo/snapshots/step16`, or any Hugging Face model
// folder.
Snapshot open_snapshot(const Path& folder);

// Reads `matrix` of every step into a stack; one matrix is in memory at a time.
struct ExtractConfig {
  std::string matrix = "W_U", steps = "all", dtype;

  void fields(FieldVisitor& v) {
    v.field("matrix", matrix, "W_U (readout), W_E (input embedding), or a tensor's name");
    v.field("steps", steps,
            "list, range (0:1000:100) or preset (all, log2, pythia, pythia-32, ...)");
    v.field("dtype", dtype, "fp32 | bf16 | fp16; empty is the type of the files");
  }
};

struct Extracted {
  std::vector<std::int64_t> steps, shape;
  std::vector<std::string> sha256;  // of the matrix at each step, where it was read
};
Extracted extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out);

}  // namespace cresco::trajectories
