#include "cresco/trajectories/open_snapshot.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/families/gpt2.h"
#include "cresco/families/neox.h"
#include "cresco/families/pythia.h"
#include "cresco/formats/llmc.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/shard_index.h"
#include "cresco/formats/torch_file.h"
#include "cresco/trajectories/layouts.h"
#include "cresco/trajectories/stack.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;
using formats::StoredTensor;

constexpr std::int64_t kLargestIndex = 64 << 20;

bool is_in_hub_cache(const Path& path) {
  return std::any_of(path.begin(), path.end(),
                     [](const Path& part) { return part.string().starts_with("models--"); });
}

// What one file of weights holds.
struct Container {
  std::vector<StoredTensor> tensors;
  Json config;             // what the container itself says of the model
  std::int64_t step = -1;  // and of the training
  std::vector<std::string> foreign_objects;
};

// The state dict alone, or in the dictionary that a trainer saved it in: nanoGPT's `model`,
// Lightning's `state_dict`, DeepSpeed's `module`.
Container open_torch(const std::shared_ptr<const InputFile>& file) {
  const formats::TorchFile weights(file);
  Container found{.foreign_objects = weights.unknown_globals()};
  for (const char* key : {"model", "state_dict", "module"})
    if (const auto* inner = weights.find_value(key);
        inner && inner->kind == formats::PickleValue::Kind::Dict && found.tensors.empty())
      found.tensors = weights.tensors_at(key);
  if (found.tensors.empty()) found.tensors = weights.tensors();
  require(!found.tensors.empty(), "{}: holds no tensors{}{}", file->path().string(),
          found.foreign_objects.empty() ? "" : "; it holds what cannot be opened: ",
          join(found.foreign_objects, ", "));
  if (const auto* sizes = weights.find_value("model_args")) {
    const Json args = formats::plain_json(*sizes);
    found.config = families::gpt2_config_from_nanogpt(args.is_object() ? args : Json::object(),
                                                      file->path().string());
  }
  if (const auto* step = weights.find_value("iter_num");
      step && step->kind == formats::PickleValue::Kind::Int)
    found.step = step->integer;
  return found;
}

Container open_llmc(const std::shared_ptr<const InputFile>& file) {
  const formats::LlmcFile weights(file);
  const formats::LlmcHeader& h = weights.header();
  return {.tensors = weights.tensors(),
          .config = families::gpt2_config_from_llmc(h.max_seq_len, h.vocab_size, h.num_layers,
                                                    h.num_heads, h.channels)};
}

// By what the file begins with, never by its name.
Container open_container(const Path& path) {
  const auto file = std::make_shared<const InputFile>(path);
  if (formats::looks_like_torch(*file)) return open_torch(file);
  if (formats::looks_like_llmc(*file)) return open_llmc(file);
  return {.tensors = formats::SafetensorsFile(file).tensors()};
}

// A GPT-NeoX state dict that came without a config: that of the Pythia size whose tensors have just
// these shapes. Shapes alone don't say how many heads there are; the suite's sizes do. Null when
// there is no such size.
Json config_by_shapes(const std::vector<StoredTensor>& tensors) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const StoredTensor& tensor : tensors)
    if (const std::string name = families::neox_canonical_name(tensor.name); !name.empty())
      shapes[name] = tensor.shape;
  for (const families::PythiaModel& model : families::pythia_models()) {
    const families::NeoxConfig config = model.config();
    const auto specs = families::neox_tensors(config);
    // A deeper model of the same width has all of them too, and more.
    if (shapes.size() != specs.size()) continue;
    if (std::all_of(specs.begin(), specs.end(), [&](const families::TensorSpec& spec) {
          const auto found = shapes.find(spec.name);
          return found != shapes.end() && found->second == spec.shape;
        })) {
      Json json = families::neox_to_json(config, "float16", 0);
      json["_name_or_path"] = model.name() + ", by the shapes of the tensors";
      return json;
    }
  }
  return {};
}

// Adds a file's tensors to the snapshot's, whatever container it is.
void add_weights(const Path& file, const Path& root, SnapshotContents& contents) {
  contents.files.push_back(file);
  Container found = open_container(follow_link(file, root));
  if (contents.config.is_null()) contents.config = std::move(found.config);
  if (contents.step < 0) contents.step = found.step;
  for (StoredTensor& tensor : found.tensors) contents.tensors.push_back(std::move(tensor));
  for (std::string& name : found.foreign_objects)
    contents.foreign_objects.push_back(std::move(name));
}

// The shards of an index. A tensor belongs to the file that the index names; tensors that it does
// not name (buffers) stay.
void add_shards(const Path& index_path, const Path& root, SnapshotContents& contents) {
  const std::string where = index_path.string();
  const auto index =
      formats::parse_shard_index(read_file(follow_link(index_path, root), kLargestIndex), where);
  contents.files.push_back(index_path);
  std::set<std::string> found;
  for (const std::string& name : index.files) {
    const Path file = index_path.parent_path() / name;
    require(fs::exists(file), "{}: names '{}', which is not there", where,
            escape_for_terminal(name));
    const std::size_t first = contents.tensors.size();
    add_weights(file, root, contents);
    const auto begin = contents.tensors.begin() + static_cast<std::ptrdiff_t>(first);
    contents.tensors.erase(std::remove_if(begin, contents.tensors.end(),
                                          [&](const StoredTensor& tensor) {
                                            const auto entry = index.file_of.find(tensor.name);
                                            return entry != index.file_of.end() &&
                                                   entry->second != name;
                                          }),
                           contents.tensors.end());
    for (std::size_t i = first; i < contents.tensors.size(); ++i)
      found.insert(contents.tensors[i].name);
  }
  for (const auto& [tensor, file] : index.file_of)
    require(found.contains(tensor), "{}: '{}' should hold tensor '{}', but does not", where,
            escape_for_terminal(file), escape_for_terminal(tensor));
}

// The weights of a model's folder, in Hugging Face's order of search.
void add_folder_weights(const Path& folder, const Path& root, SnapshotContents& contents) {
  for (const std::string name : {"model.safetensors", "pytorch_model.bin"}) {
    if (fs::exists(fs::symlink_status(folder / name)))
      return add_weights(folder / name, root, contents);
    if (const Path index = folder / (name + ".index.json"); fs::exists(fs::symlink_status(index)))
      return add_shards(index, root, contents);
  }
  fail("{}: holds neither model.safetensors nor pytorch_model.bin, whole or in shards",
       folder.string());
}

// W_U or W_E, by the name in a matrix file, or for a bare tensor by the file's name.
std::string matrix_name(const std::string& tensor, const Path& file) {
  if (tensor == "W_U" || tensor == "w_u") return "W_U";
  if (tensor == "W_E" || tensor == "w_e") return "W_E";
  if (tensor.empty()) return file.string().ends_with("_we.pt") ? "W_E" : "W_U";
  return tensor;
}

}  // namespace

Path follow_link(const Path& file, const Path& root) {
  std::error_code error;
  const Path target = fs::canonical(file, error);
  require(!error, "{}: {}", file.string(),
          fs::is_symlink(file) ? "is a link to a file that is not there" : error.message());
  const Path folder = fs::is_directory(root) ? root : fs::absolute(root).parent_path();
  require(fs::is_regular_file(target), "{}: is not a regular file", file.string());
  if (is_within(target, folder) || is_in_hub_cache(target)) return target;
  fail("{}: is a link that leads out of {}, to {}: open that folder itself, or copy the file",
       file.string(), root.string(), target.string());
}

std::optional<std::int64_t> step_of_name(const Path& path) {
  const Path normal = path.lexically_normal();
  const Path name = normal.filename().empty() ? normal.parent_path().filename() : normal.filename();
  const auto revision = parse_revision(name.string());
  return revision ? std::optional(revision->step) : std::nullopt;
}

std::int64_t step_of_file(const Path& file) {
  return step_of_name(fs::absolute(file).parent_path()).value_or(-1);
}

bool holds_weights(const Path& path) {
  const InputFile file(path);
  return formats::looks_like_torch(file) || formats::looks_like_llmc(file) ||
         path.extension() == ".safetensors";
}

bool is_model_folder(const Path& folder) { return fs::is_regular_file(folder / "config.json"); }

Snapshot open_model_folder(const Path& folder, std::int64_t step, const Path& root) {
  const Path config = folder / "config.json";
  SnapshotContents contents{.step = step, .place = folder};
  contents.config = read_json_file(follow_link(config, root));
  contents.files.push_back(config);
  add_folder_weights(folder, root, contents);
  return Snapshot(std::move(contents));
}

Snapshot open_weights_file(const Path& file, std::int64_t step, const Path& root) {
  SnapshotContents contents{.step = step, .place = file};
  if (const Path config = file.parent_path() / "config.json"; fs::exists(config)) {
    contents.config = read_json_file(follow_link(config, root));
    contents.files.push_back(config);
  }
  add_weights(file, root, contents);
  contents.step = std::max<std::int64_t>(contents.step, 0);
  if (contents.config.is_null()) contents.config = config_by_shapes(contents.tensors);
  return Snapshot(std::move(contents));
}

Snapshot open_matrix_files(const std::vector<Path>& files, std::int64_t step, const Path& root) {
  SnapshotContents contents{.step = step, .place = files.front()};
  for (const Path& file : files) {
    const std::size_t first = contents.tensors.size();
    add_weights(file, fs::is_directory(root) ? root : fs::absolute(root).parent_path(), contents);
    for (std::size_t i = first; i < contents.tensors.size(); ++i)
      contents.tensors[i].name = matrix_name(contents.tensors[i].name, file);
  }
  return Snapshot(std::move(contents));
}

Snapshot open_stack_step(const Path& file, std::int64_t step) {
  const Stack stack(file);
  StoredTensor matrix = stack.stored(stack.indices({step})[0]);
  matrix.name = stack.info().matrix;
  return Snapshot({.step = step,
                   .place = file,
                   .files = {file},
                   .tensors = {std::move(matrix)},
                   .note = stack.info().note});
}

Snapshot open_snapshot(const Path& path) {
  if (const auto cached = cached_snapshot(path, "main")) return open_model_folder(*cached, 0, path);
  const Layout layout = recognise(path);
  require(layout.places.size() == 1, "{}: holds {} snapshots, one is wanted: give its own folder",
          path.string(), layout.places.size());
  return layout.open(layout.places[0]);
}

}  // namespace cresco::trajectories
