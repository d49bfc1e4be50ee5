#include "cresco/verbs/show_dictionary.h"

#include "cresco/base/json.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/imports.h"
#include "cresco/dictionaries/index.h"
#include "cresco/dictionaries/released.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/safetensors.h"
#include "cresco/formats/torch_file.h"

#include <algorithm>
#include <map>

namespace cresco::verbs {
namespace {

namespace fs = std::filesystem;
using dictionaries::DictionaryIndex;
using dictionaries::IndexedDictionary;
using dictionaries::IndexedFile;

Json tensors_of(const Path& file) {
  const auto read = [&]() -> std::vector<formats::StoredTensor> {
    if (file.extension() == ".npz") return formats::NpzFile(file).tensors();
    if (file.extension() == ".pt") return formats::TorchFile(file).tensors();
    return formats::SafetensorsFile(file).tensors();
  };
  Json out = Json::object();
  for (const auto& t : read())
    out[t.name] = {{"dtype", formats::name_of(t.dtype)}, {"shape", t.shape}};
  return out;
}

Json show_one(const Path& path) {
  const Path file = dictionaries::dictionary_file(path);
  const auto dictionary = dictionaries::describe_dictionary(file);
  Json out{{"kind", "dictionary"},
           {"layout", file.extension() == ".pt" ? "training" : "released"},
           {"name", dictionary.name},
           {"model", dictionary.model_name},
           {"matrix", dictionary.matrix},
           {"steps", dictionary.steps},
           {"seed", dictionary.has_seed ? Json(dictionary.seed) : Json()},
           {"activation", name_of(dictionary.activation.kind)},
           {"input_preprocess", dictionary.training.input_preprocess},
           {"quality", dictionary.quality}};
  if (!dictionary.notes.empty()) out["notes"] = dictionary.notes;
  if (const Json again = dictionaries::recomputed_metrics(file); !again.is_null())
    out["metrics_recomputed"] = again;
  out["tensors"] = tensors_of(file);
  return out;
}

// Another library's files: its own config, and what there is.
Json show_foreign(const Path& path, const std::string& layout) {
  Json out{{"kind", "dictionary"}, {"layout", layout}};
  for (const Path& file : dictionaries::files_of_layout(path, layout))
    if (file.extension() == ".json")
      out["config"] = read_json_file(file);
    else
      out["tensors"] = tensors_of(file);
  return out;
}

// The index of a tree, when it has one of ours, knows the files' hashes; a file of another size has
// changed since.
void add_hashes(DictionaryIndex& seen, const DictionaryIndex& index, Json& out) {
  std::map<std::string, IndexedFile> known;
  for (const IndexedDictionary& dictionary : index.dictionaries)
    for (const IndexedFile& file : dictionary.files) known[file.path] = file;
  for (const IndexedFile& file : index.other_files) known[file.path] = file;
  const auto look_up = [&](IndexedFile& file) {
    const auto found = known.find(file.path);
    if (found == known.end())
      out["not_in_the_index"].push_back(file.path);
    else if (found->second.bytes != file.bytes)
      out["changed_since_the_index"].push_back(file.path);
    else
      file.sha256 = found->second.sha256;
    if (found != known.end()) known.erase(found);
  };
  for (IndexedDictionary& dictionary : seen.dictionaries)
    for (IndexedFile& file : dictionary.files) look_up(file);
  for (IndexedFile& file : seen.other_files) look_up(file);
  for (const auto& [path, file] : known) out["missing"].push_back(path);
}

Json tree_json(const DictionaryIndex& index) {
  Json json = dictionaries::index_json(index);
  json.erase("format");
  json.erase("version");
  Json out{{"kind", "dictionaries"}};
  out.update(json);
  for (const auto& problem : index.problems)
    out["unreadable"].push_back({{"path", problem.path}, {"error", problem.error}});
  return out;
}

Json show_tree(const Path& folder) {
  DictionaryIndex seen = dictionaries::scan_dictionaries(folder);
  Json notes = Json::object();
  if (const Path index = folder / "index.json"; dictionaries::is_index(index))
    add_hashes(seen, dictionaries::read_index(index), notes);
  Json out = tree_json(seen);
  out.update(notes);
  return out;
}

bool holds_one(const Path& folder) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    count += entry.path().extension() == ".safetensors" &&
             fs::exists(Path(entry.path()).replace_extension(".config.json"));
  return count == 1;
}

std::string number(const Json& quality, const char* key, int digits) {
  const auto found = quality.is_object() ? quality.find(key) : quality.end();
  if (!quality.is_object() || found == quality.end() || !found->is_number()) return "";
  return fmt::format("{:.{}f}", found->get<double>(), digits);
}

}  // namespace

std::optional<Json> show_dictionaries(const Path& path) {
  if (dictionaries::is_index(path)) return tree_json(dictionaries::read_index(path));
  if (fs::is_directory(path)) {
    if (dictionaries::is_index(path / "index.json")) return show_tree(path);
    const std::string layout = dictionaries::recognised_layout(path);
    if (layout == "dictionary") return holds_one(path) ? show_one(path) : show_tree(path);
    if (!layout.empty()) return show_foreign(path, layout);
    return std::nullopt;
  }
  if (path.extension() == ".npz" || dictionaries::recognised_layout(path) != "dictionary")
    return std::nullopt;
  return show_one(path);
}

std::optional<Json> show_tree_below(const Path& folder) {
  if (dictionaries::find_dictionaries(folder).empty()) return std::nullopt;
  return show_tree(folder);
}

std::string tree_as_text(const Json& tree) {
  std::string text =
      fmt::format("{:<52} {:<14} {:<16} {:>3} {:>7} {:>5} {:>8} {:>9} {:>11}  {}\n", "dictionary",
                  "activation", "matrix", "K", "D", "seed", "EV", "L0", "bytes", "sha256");
  for (const Json& d : tree["dictionaries"]) {
    std::int64_t bytes = 0;
    std::string sha256;
    for (const Json& file : d["files"]) {
      bytes += file["bytes"].get<std::int64_t>();
      if (file["path"].get<std::string>().ends_with(".safetensors")) sha256 = file["sha256"];
    }
    text +=
        fmt::format("{:<52} {:<14} {:<16} {:>3} {:>7} {:>5} {:>8} {:>9} {:>11}  {}\n",
                    escape_for_terminal(d["path"].get<std::string>()),
                    escape_for_terminal(d["activation"].get<std::string>()),
                    escape_for_terminal(fmt::format("{} {}", d["matrix"].get<std::string>(),
                                                    d["model"].get<std::string>())),
                    d["n_snapshots"].get<std::int64_t>(), d["d_sae"].get<std::int64_t>(),
                    d["seed"].get<std::int64_t>(), number(d["quality"], "explained_variance", 4),
                    number(d["quality"], "mean_l0", 1), human_bytes(static_cast<double>(bytes)),
                    escape_for_terminal(sha256));
  }
  text += fmt::format("{} dictionaries, {} other files\n", tree["dictionaries"].size(),
                      tree["other_files"].size());
  for (const char* key : {"unreadable", "not_in_the_index", "changed_since_the_index", "missing"})
    if (tree.contains(key))
      for (const Json& item : tree[key])
        text +=
            fmt::format("{}: {}\n", key,
                        escape_for_terminal(item.is_string() ? item.get<std::string>()
                                                             : item["error"].get<std::string>()));
  return text;
}

}  // namespace cresco::verbs
