// Trajectories and models in other layouts. What is written is read again and compared with where
// it came from, number by number.
#pragma once

#include "cresco/base/progress.h"
#include "cresco/trajectories/trajectory.h"

#include <string>
#include <vector>

namespace cresco::trajectories {

struct ConvertConfig {
  std::string to, matrix, steps = "all", dtype, model_config;

  std::string matrix_or_default() const { return matrix.empty() ? "W_U" : matrix; }

  void fields(FieldVisitor& v) {
    v.field(
        "to", to,
        "hf_steps (from a run, a hub cache, recipe-control arms) | wu_pt | stack (one matrix, from "
        "anything) | hf_model | nanogpt | llmc (a GPT-2); from dictionaries: dictionary | "
        "llamascopium | saelens | dictionary_learning | sparsify | params_npz; from a folder of "
        "dictionaries: index");
    v.field("matrix", matrix,
            "of wu_pt and stack: W_U (when empty) or W_E, of stack any that extract knows; of a "
            "dictionary: what its files may not say");
    v.field("steps", steps,
            "list, range or preset; of a dictionary whose files don't say them: one for each head");
    v.field("dtype", dtype, "fp32 | bf16 | fp16; empty is the type of the files");
    v.field("model_config", model_config,
            "a config.json for files that come without one (recipe-control arms)");
  }
};

// How what was written compares with where it was read, over all numbers of a step.
struct ConvertedStep {
  std::int64_t step = 0;
  Path out;
  std::int64_t num_tensors = 0, num_equal = 0;  // equal in every bit
  double max_abs_difference = 0;
  double relative_difference = 0;  // ||written - read|| / ||read||
};

struct Converted {
  std::string from;
  std::vector<ConvertedStep> steps;
  std::vector<std::string> notes;  // what another program will compute differently
};

// `out` is a folder for hf_steps, wu_pt and hf_model, else a file. Error when a conversion is none
// of those above, naming what the source lacks; when a number does not survive (another value in
// the same type, infinity in a smaller one). Steps that stand in `out` already are compared, not
// written again: a call that was stopped goes on.
Converted convert(const Trajectory& trajectory, const ConvertConfig& config, const Path& out,
                  Progress& progress, const std::string& resume_command);

// hf_steps, wu_pt, ...
const std::vector<std::string>& converted_layouts();

// UsageError or Error when convert() would refuse; reads no weights.
void check_convert(const Trajectory& trajectory, const ConvertConfig& config);

}  // namespace cresco::trajectories
