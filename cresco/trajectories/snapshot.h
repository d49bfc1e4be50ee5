// One snapshot: the weights of a model at one step, whatever files they came in.
#pragma once

#include "cresco/families/family.h"
#include "cresco/formats/stored_tensor.h"

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cresco::trajectories {

// What an opener finds in files: headers only, no weights.
struct SnapshotContents {
  std::int64_t step = 0;
  Path place;   // the folder or file that it is, for messages
  Json config;  // Hugging Face's config.json or what a container says in its place; null if neither
  std::vector<Path> files;                     // config and weights
  std::vector<formats::StoredTensor> tensors;  // under the names the files give them
  // Names of foreign objects in a pickle, which stay closed.
  std::vector<std::string> foreign_objects;
  std::string note;  // of a stack's matrix that was computed: how
};

class Snapshot {
 public:
  // Tensors get their family's canonical names; buffers of old files (masks, tables of angles) are
  // left out. Error when one name stands for two tensors.
  explicit Snapshot(SnapshotContents contents);

  std::int64_t step() const { return contents_.step; }
  const Path& place() const { return contents_.place; }
  std::string where() const { return contents_.place.string(); }
  const Json& config() const { return contents_.config; }
  std::vector<Path> files() const { return contents_.files; }
  const std::vector<formats::StoredTensor>& tensors() const { return contents_.tensors; }
  const std::vector<std::string>& foreign_objects() const { return contents_.foreign_objects; }
  const std::string& note() const { return contents_.note; }

  // By the config's model_type, else by the tensors' names; null when neither says.
  const families::Family* family() const { return family_; }

  bool has(const std::string& name) const { return index_.contains(name); }
  const formats::StoredTensor& tensor(const std::string& name) const;  // Error names what is near
  at::Tensor read(const std::string& name) const;                      // a copy, in the file's type

  // The name of the tensor that is meant: W_U and W_E by what they are, a file's own name for a
  // tensor, or the name itself.
  std::string resolve(const std::string& matrix) const;
  // Every matrix and vector by its mathematical name (families/family.h); empty when the family or
  // the config is not known.
  const std::vector<families::MatrixPart>& matrices() const;

  // Names, sizes and times of its files: as long as these are the same, so are the weights.
  Json identity() const;
  // Error when the family and the config are known and ask for another shape of this tensor.
  void require_shape(const formats::StoredTensor& tensor) const;
  // Error when a file was written to since it was opened.
  void require_unchanged() const;

 private:
  SnapshotContents contents_;
  const families::Family* family_ = nullptr;
  std::map<std::string, std::size_t> index_;  // by name, into the tensors
  // Once they were asked for.
  mutable std::optional<std::vector<families::MatrixPart>> matrices_;
  mutable std::optional<std::map<std::string, std::vector<std::int64_t>>> shapes_;
};

// [name, size, time] of a file, for results that are gone on with as long as it is the same.
Json file_identity(const Path& file);

// Writes a snapshot that `AutoModelForCausalLM.from_pretrained` opens: the folder appears whole.
// Tensors of an optimizer, where there are some, stand beside it in optimizer.safetensors.
void write_snapshot(const Path& folder, const Json& config,
                    const std::vector<std::pair<std::string, at::Tensor>>& weights,
                    at::ScalarType dtype, bool replace,
                    const std::vector<std::pair<std::string, at::Tensor>>& optimizer = {});

}  // namespace cresco::trajectories
