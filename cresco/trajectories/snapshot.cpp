#include "cresco/trajectories/snapshot.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/families/neox.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>

#include <set>

namespace cresco::trajectories {
namespace {

// The weight files of a folder, in Hugging Face's order of search.
std::vector<Path> weight_files(const Path& folder) {
  const Path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) return {single};
  require(std::filesystem::exists(index), "{}: holds neither model.safetensors nor its index",
          folder.string());
  const Json json = read_json_file(index);
  require(json.contains("weight_map") && json["weight_map"].is_object(), "{}: has no weight_map",
          index.string());
  std::set<std::string> names;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    require(file.is_string(), "{}: the file of '{}' is not a name", index.string(),
            escape_for_terminal(tensor));
    const std::string name = file.get<std::string>();
    require(!name.empty() && name.find('/') == std::string::npos && name != "..",
            "{}: '{}' leads out of the folder", index.string(), escape_for_terminal(name));
    names.insert(name);
  }
  std::vector<Path> files;
  for (const std::string& name : names) files.push_back(folder / name);
  return files;
}

}  // namespace

Snapshot::Snapshot(const Path& folder, std::int64_t step) : folder_(folder), step_(step) {
  config_ = read_json_file(folder / "config.json");
  for (const Path& file : weight_files(folder)) add_file(file);
}

void Snapshot::add_file(const Path& file) {
  files_.push_back(std::make_unique<formats::SafetensorsFile>(file));
  for (formats::StoredTensor view : files_.back()->tensors()) {
    if (is_neox()) view.name = families::neox_canonical_name(view.name);
    if (view.name.empty()) continue;  // a mask or a table of angles
    require(index_.try_emplace(view.name, tensors_.size()).second,
            "{}: tensor '{}' stands in two files", folder_.string(),
            escape_for_terminal(view.name));
    tensors_.push_back(std::move(view));
  }
}

bool Snapshot::is_neox() const {
  return config_.is_object() && config_.value("model_type", Json("gpt_neox")) == "gpt_neox";
}

std::vector<Path> Snapshot::files() const {
  std::vector<Path> paths{folder_ / "config.json"};
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

bool Snapshot::has(const std::string& name) const { return index_.contains(name); }

const formats::StoredTensor& Snapshot::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return tensors_[found->second];
  std::vector<std::string> names;
  for (const auto& view : tensors_) names.push_back(view.name);
  fail("{}: has no tensor '{}'{}", folder_.string(), name, did_you_mean(name, names));
}

at::Tensor Snapshot::read(const std::string& name) const { return tensor::to_tensor(tensor(name)); }

std::string Snapshot::resolve(const std::string& matrix) const {
  if (matrix != "W_U" && matrix != "W_E") {
    if (has(matrix) || !is_neox()) return matrix;
    const std::string canonical = families::neox_canonical_name(matrix);
    return has(canonical) ? canonical : matrix;
  }
  const auto names =
      families::neox_matrices(families::neox_from_json(config_, folder_.string() + "/config.json"));
  return matrix == "W_U" ? names.readout : names.input_embedding;
}

void write_snapshot(const Path& folder, const Json& config,
                    const std::vector<std::pair<std::string, at::Tensor>>& weights,
                    at::ScalarType dtype, bool replace) {
  AtomicFolder made(folder);
  std::vector<tensor::NamedTensor> stored;
  for (const auto& [name, tensor] : weights) stored.emplace_back(name, tensor.detach().to(dtype));
  tensor::write_tensors(made.folder() / "model.safetensors", stored, {{"format", "pt"}});
  write_json_file(made.folder() / "config.json", config);
  made.commit(replace);
}

}  // namespace cresco::trajectories
