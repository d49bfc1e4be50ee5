#include "cresco/trajectories/trajectory.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/steps.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::trajectories {
namespace {

// Steps of the folders `step<N>` directly in `folder`; names such as step007 or steps are not ours.
std::vector<std::int64_t> step_folders(const Path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step") || name.size() > 20 || !entry.is_directory()) continue;
    const std::string digits = name.substr(4);
    if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) continue;
    if (digits.size() > 1 && digits[0] == '0') continue;
    steps.push_back(parse_int(digits, name));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

bool is_run(const Path& path) {
  return std::filesystem::exists(path / "recipe.yaml") &&
         std::filesystem::is_directory(path / "snapshots");
}

}  // namespace

Trajectory::Trajectory(const Path& path) : path_(path) {
  require(std::filesystem::is_directory(path),
          "{}: no such folder; a trajectory is a run, or a folder of step<N>/", path.string());
  layout_ = is_run(path) ? "run" : "hf_steps";
  snapshots_ = is_run(path) ? path / "snapshots" : path;
  steps_ = step_folders(snapshots_);
  require(!steps_.empty(),
          "{}: holds no step<N>/ folders; a trajectory is a run, or a folder of step<N>/",
          snapshots_.string());
}

std::string Trajectory::model() const {
  const Path name = path_.lexically_normal().filename();
  return name.empty() ? path_.lexically_normal().parent_path().filename().string() : name.string();
}

Snapshot Trajectory::open(std::int64_t step) const {
  require(std::binary_search(steps_.begin(), steps_.end(), step), "{}: has no step {}; it has {}",
          path_.string(), step, list_steps(steps_));
  return Snapshot(snapshots_ / fmt::format("step{}", step), step);
}

std::optional<Path> Trajectory::tokenizer() const {
  for (const Path& folder : {path_, snapshots_, snapshots_ / fmt::format("step{}", steps_.back())})
    if (std::filesystem::exists(folder / "tokenizer.json")) return folder / "tokenizer.json";
  return std::nullopt;
}

Snapshot open_snapshot(const Path& folder) {
  const std::string name = folder.lexically_normal().filename().string();
  std::int64_t step = 0;
  if (name.starts_with("step") && name.size() > 4 &&
      name.find_first_not_of("0123456789", 4) == std::string::npos)
    step = parse_int(name.substr(4), name);
  return Snapshot(folder, step);
}

Extracted extract(const Trajectory& trajectory, const ExtractConfig& config, const Path& out) {
  const auto steps = choose_steps(config.steps, trajectory.steps(), trajectory.path().string());
  // Every header is checked before a byte is written.
  std::vector<std::string> hashes;
  std::vector<std::int64_t> shape;
  formats::DType dtype{};
  for (const std::int64_t step : steps) {
    const Snapshot snapshot = trajectory.open(step);
    const std::string name = snapshot.resolve(config.matrix);
    const formats::StoredTensor& view = snapshot.tensor(name);
    require(view.shape.size() == 2, "{}: '{}' has shape {}, a stack holds matrices",
            snapshot.where(), name, formats::shape_text(view.shape));
    if (shape.empty()) {
      shape = view.shape;
      dtype = view.dtype;
    }
    require(view.shape == shape && view.dtype == dtype,
            "{}: '{}' is {} of {}, at step {} it was {} of {}", snapshot.where(), name,
            formats::shape_text(view.shape), formats::name_of(view.dtype), steps[0],
            formats::shape_text(shape), formats::name_of(dtype));
    hashes.push_back(formats::sha256_of(view));
  }
  const at::ScalarType type =
      config.dtype.empty() ? tensor::scalar_type(dtype) : tensor::scalar_type_named(config.dtype);
  const formats::DType stored = tensor::dtype_of(at::empty({0}, type));
  StackWriter writer(out, {trajectory.model(), config.matrix, steps}, stored, shape[0], shape[1],
                     hashes);
  for (const std::int64_t step : writer.order()) {
    const Snapshot snapshot = trajectory.open(step);
    writer.write(snapshot.read(snapshot.resolve(config.matrix)).to(type));
  }
  writer.commit();
  return {steps, shape, hashes};
}

}  // namespace cresco::trajectories
