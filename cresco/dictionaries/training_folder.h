// The folder of a training, whatever is trained:
//
//   settings.json     what has to be the same for the training to go on
//   state/step<N>/    state.safetensors and state.json after N steps; the last two are kept; those
//                     of other ranks than the first stand in state/rank<R>/step<N>
//   COMPLETE          written last of all; holds the number of steps taken
//
// beside the log, the result and the manifest, which the training writes itself.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/base/files.h"
#include "cresco/base/progress.h"
#include "cresco/dist/ranks.h"
#include "cresco/formats/safetensors.h"
#include "cresco/tensor/bridge.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cresco::dictionaries {

class StateFolders {
 public:
  explicit StateFolders(const Path& run_folder, int rank = 0)
      : folder_(rank == 0 ? run_folder / "state"
                          : run_folder / "state" / ("rank" + std::to_string(rank))) {}

  std::vector<std::int64_t> steps() const;  // ascending
  Path path(std::int64_t step) const { return folder_ / ("step" + std::to_string(step)); }
  std::string newest_name() const;  // for messages

  // Keeps the last two. `numbers` go into state.json, beside the step.
  void write(std::int64_t step, const std::vector<tensor::NamedTensor>& tensors,
             const Json& numbers = Json::object()) const;

  // Gives the newest state to `read` and returns its step; 0 when there is none. When `read` throws
  // an Error the state before it is tried, so that it has to take in everything or be called again.
  // With several ranks it is the newest state that each of them has and can read.
  using Read = std::function<void(const formats::SafetensorsFile& file, const Json& numbers)>;
  std::int64_t read_newest(const Read& read, Progress& progress,
                           dist::Ranks& ranks = dist::one_rank()) const;

  void keep_last(std::size_t count) const;

 private:
  Path folder_;
};

// Copies each tensor's stored values into it; Error for one that is missing or of another shape.
void copy_stored(const formats::SafetensorsFile& file,
                 const std::vector<tensor::NamedTensor>& tensors);

// What the program takes with LibTorch, before anything is read.
inline constexpr double kProgramBytes = 125.0 * (1 << 20);
// What CUDA and the libraries of its products take on a GPU: an allowance, not a measurement.
inline constexpr double kGpuProgramBytes = 768.0 * (1 << 20);

struct FolderRules {
  std::string resume = "auto";  // auto: go on from a state when there is one | never | must
  bool overwrite = false;
  std::int64_t last_step = 0;  // a complete training that has a state before this one can go on
  std::vector<Path> inputs;    // what --overwrite must not remove
};

// Leaves the folder, which exists and is locked, ready to begin or to go on; Error when what stands
// in it is in the way.
void open_training_folder(const Path& folder, const Json& settings, const FolderRules& rules);

// How many steps a training with these settings took that ended here, by itself or cut short;
// nothing when there is none. Error when it holds one with other settings.
std::optional<std::int64_t> completed_steps(const Path& folder, const Json& settings);

void mark_complete(const Path& folder, std::int64_t num_steps);

}  // namespace cresco::dictionaries
