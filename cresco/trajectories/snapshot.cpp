#include "cresco/trajectories/snapshot.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/tensor/bridge.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cresco::trajectories {
namespace {

using formats::StoredTensor;

// A file of weights without a config: its tensors' names say whose they are.
const families::Family* family_by_names(const std::vector<StoredTensor>& tensors) {
  const std::pair<const char*, const char*> signs[] = {
      {".attention.query_key_value.weight", "gpt_neox"},
      {"post_feedforward_layernorm.weight", "olmo2"},
      {"attn.c_attn.weight", "gpt2"}};
  for (const auto& [sign, model_type] : signs)
    for (const StoredTensor& tensor : tensors)
      if (tensor.name.ends_with(sign)) return families::find_family({{"model_type", model_type}});
  return nullptr;
}

// What the two embeddings are called in families that we know no more of.
constexpr const char* kReadouts[] = {"lm_head.weight", "embed_out.weight"};
constexpr const char* kInputEmbeddings[] = {"model.embed_tokens.weight", "gpt_neox.embed_in.weight",
                                            "transformer.wte.weight", "wte.weight"};

// Of a family that we know no more of: tied unless its config says otherwise, which only matters
// where a file holds one of the two alone.
bool may_be_tied(const Json& config) {
  return config.is_object() &&
         (!config.contains("tie_word_embeddings") || config["tie_word_embeddings"] != Json(false));
}

}  // namespace

Snapshot::Snapshot(SnapshotContents contents) : contents_(std::move(contents)) {
  family_ = families::find_family(contents_.config);
  if (!family_ && contents_.config.is_null()) family_ = family_by_names(contents_.tensors);
  std::vector<StoredTensor> kept;
  for (StoredTensor& tensor : contents_.tensors) {
    if (family_) tensor.name = family_->canonical_name(tensor.name);
    if (tensor.name.empty()) continue;
    require(index_.try_emplace(tensor.name, kept.size()).second, "{}: holds tensor '{}' twice",
            where(), escape_for_terminal(tensor.name));
    kept.push_back(std::move(tensor));
  }
  contents_.tensors = std::move(kept);
}

const StoredTensor& Snapshot::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return contents_.tensors[found->second];
  return formats::tensor_named(contents_.tensors, name, where());
}

at::Tensor Snapshot::read(const std::string& name) const { return tensor::to_tensor(tensor(name)); }

std::string Snapshot::resolve(const std::string& matrix) const {
  if (has(matrix)) return matrix;
  const bool is_readout = matrix == "W_U";
  if (!is_readout && matrix != "W_E") {
    const std::string canonical = family_ ? family_->canonical_name(matrix) : matrix;
    return has(canonical) ? canonical : matrix;
  }
  if (family_ && !config().is_null())
    for (const families::MatrixPart& part : matrices())
      if (part.name == matrix && has(part.tensor)) return part.tensor;
  // Of a tied model a file may hold either of the two.
  const bool is_tied =
      family_ && config().is_object() ? family_->is_tied(config(), where()) : may_be_tied(config());
  std::vector<const char*> names;
  if (is_readout || is_tied) names.insert(names.end(), std::begin(kReadouts), std::end(kReadouts));
  if (!is_readout || is_tied)
    names.insert(names.end(), std::begin(kInputEmbeddings), std::end(kInputEmbeddings));
  for (const char* name : names)
    if (has(name)) return name;
  fail("{}: holds no {}: none of {}", where(), is_readout ? "readout" : "input embedding",
       fmt::join(names, ", "));
}

const std::vector<families::MatrixPart>& Snapshot::matrices() const {
  if (!matrices_)
    matrices_ = family_ && config().is_object() ? family_->matrices(config(), where())
                                                : std::vector<families::MatrixPart>();
  return *matrices_;
}

void Snapshot::require_shape(const StoredTensor& tensor) const {
  if (!shapes_) {
    shapes_.emplace();
    if (family_ && config().is_object())
      for (families::TensorSpec& spec : family_->tensors(config(), where()))
        shapes_->emplace(spec.name, std::move(spec.shape));
  }
  const auto expected = shapes_->find(tensor.name);
  require(expected == shapes_->end() || expected->second == tensor.shape,
          "{}: has shape {}, its config asks for {}", tensor.where(),
          formats::shape_text(tensor.shape),
          expected == shapes_->end() ? "" : formats::shape_text(expected->second));
}

Json file_identity(const Path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  require(!error, "{}: {}", file.string(), error.message());
  const auto time = std::filesystem::last_write_time(file, error);
  require(!error, "{}: {}", file.string(), error.message());
  return {file.string(), size, time.time_since_epoch().count()};
}

Json Snapshot::identity() const {
  Json files = Json::array();
  for (const Path& file : contents_.files) files.push_back(file_identity(file));
  return files;
}

void Snapshot::require_unchanged() const {
  const InputFile* last = nullptr;
  for (const StoredTensor& tensor : contents_.tensors)
    if (tensor.file.get() != last) {
      last = tensor.file.get();
      last->require_unchanged();
    }
}

void write_snapshot(const Path& folder, const Json& config,
                    const std::vector<std::pair<std::string, at::Tensor>>& weights,
                    at::ScalarType dtype, bool replace,
                    const std::vector<std::pair<std::string, at::Tensor>>& optimizer) {
  AtomicFolder made(folder);
  std::vector<tensor::NamedTensor> stored;
  for (const auto& [name, tensor] : weights) stored.emplace_back(name, tensor.detach().to(dtype));
  tensor::write_tensors(made.folder() / "model.safetensors", stored, {{"format", "pt"}});
  if (!optimizer.empty()) tensor::write_tensors(made.folder() / "optimizer.safetensors", optimizer);
  write_json_file(made.folder() / "config.json", config);
  made.commit(replace);
}

}  // namespace cresco::trajectories
