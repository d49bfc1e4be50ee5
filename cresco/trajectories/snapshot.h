// One snapshot: the weights of a model at one step, in Hugging Face's layout.
#pragma once

#include "cresco/base/fields.h"
#include "cresco/formats/safetensors.h"

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cresco::trajectories {

class Snapshot {
 public:
  // A folder with config.json and model.safetensors (or its shards and their index). Headers are
  // read and checked; weights are not. Tensors are known by their canonical names.
  Snapshot(const Path& folder, std::int64_t step);

  std::int64_t step() const { return step_; }
  const Path& folder() const { return folder_; }
  std::string where() const { return folder_.string(); }
  const Json& config() const { return config_; }
  const std::vector<formats::StoredTensor>& tensors() const { return tensors_; }

  // config.json and the weight files.
  std::vector<Path> files() const;

  bool has(const std::string& name) const;
  const formats::StoredTensor& tensor(
      const std::string& name) const;              // Error that names what is near
  at::Tensor read(const std::string& name) const;  // a copy, in the file's type
  // W_U and W_E by what they are; for GPT-NeoX other names of a tensor too.
  std::string resolve(const std::string& matrix) const;

 private:
  void add_file(const Path& file);
  bool is_neox() const;

  Path folder_;
  std::int64_t step_;
  Json config_;
  std::vector<std::unique_ptr<formats::SafetensorsFile>> files_;
  std::vector<formats::StoredTensor> tensors_;
  std::map<std::string, std::size_t> index_;  // by name, into tensors_
};

// Writes a snapshot that `AutoModelForCausalLM.from_pretrained` opens: the folder appears whole.
void write_snapshot(const Path& folder, const Json& config,
                    const std::vector<std::pair<std::string, at::Tensor>>& weights,
                    at::ScalarType dtype, bool replace);

}  // namespace cresco::trajectories
