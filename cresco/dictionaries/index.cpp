#include "cresco/dictionaries/index.h"

#include "cresco/base/hash.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/dictionaries/released.h"

#include <algorithm>
#include <set>

namespace cresco::dictionaries {
namespace {

namespace fs = std::filesystem;

void add_files_below(const Path& folder, const Path& root, std::vector<std::string>& files) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(".")) continue;
    if (entry.is_directory() && !entry.is_symlink())
      add_files_below(entry.path(), root, files);
    else if (entry.is_regular_file())
      files.push_back(entry.path().lexically_relative(root).generic_string());
  }
  require(!error, "{}: cannot be listed: {}", folder.string(), error.message());
}

// Every file below a folder but hidden ones, by its path from there.
std::vector<std::string> files_below(const Path& folder) {
  std::vector<std::string> files;
  add_files_below(folder, folder, files);
  std::sort(files.begin(), files.end());
  return files;
}

bool is_dictionary(const std::string& file, const std::set<std::string>& all) {
  return file.ends_with(".safetensors") &&
         all.contains(Path(file).replace_extension(".config.json"));
}

IndexedFile sized(const Path& folder, const std::string& path) {
  return {path, static_cast<std::int64_t>(fs::file_size(folder / path)), ""};
}

IndexedDictionary described(const Path& folder, const std::string& path,
                            const std::set<std::string>& all) {
  const Dictionary d = describe_dictionary(folder / path);
  const CrosscoderParameters& p = d.parameters;
  const std::string stem = Path(path).replace_extension("").generic_string();
  IndexedDictionary out{.path = stem,
                        .kind = d.kind,
                        .activation = name_of(d.activation.kind),
                        .model = d.model_name,
                        .matrix = d.matrix,
                        .steps = d.steps,
                        .n_snapshots = p.num_heads(),
                        .d_model = p.width(),
                        .d_sae = p.num_features(),
                        .seed = d.seed,
                        .quality = d.quality,
                        .metrics_recomputed = recomputed_metrics(folder / path)};
  for (const char* suffix : {".safetensors", ".config.json", ".md", ".metrics_recomputed.json"})
    if (all.contains(stem + suffix)) out.files.push_back(sized(folder, stem + suffix));
  return out;
}

Json file_json(const IndexedFile& file) {
  return {{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}};
}

Json files_json(const std::vector<IndexedFile>& files) {
  Json out = Json::array();
  for (const IndexedFile& file : files) out.push_back(file_json(file));
  return out;
}

// A path below the folder, whatever the file says.
std::string read_path(const Json& object, const std::string& where) {
  const std::string path = get_string(object, "path", where);
  const Path parts(path);
  const bool leaves = std::any_of(parts.begin(), parts.end(),
                                  [](const Path& part) { return part == ".." || part.empty(); });
  require(!path.empty() && parts.is_relative() && !leaves,
          "{}: '{}' is no path below the index's folder", where, escape_for_terminal(path));
  return path;
}

const Json& list_in(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_array(), "{}: '{}' is missing or no list", where, key);
  for (const Json& item : *found)
    require(item.is_object(), "{}: '{}' holds what is not an object", where, key);
  return *found;
}

std::vector<IndexedFile> read_files(const Json& object, const char* key, const std::string& where) {
  std::vector<IndexedFile> files;
  for (const Json& file : list_in(object, key, where)) {
    files.push_back(
        {read_path(file, where), get_int(file, "bytes", where), get_string(file, "sha256", where)});
    require(files.back().bytes >= 0, "{}: '{}' has {} bytes", where,
            escape_for_terminal(files.back().path), files.back().bytes);
  }
  return files;
}

}  // namespace

std::vector<Path> find_dictionaries(const Path& folder) {
  const auto files = files_below(folder);
  const std::set<std::string> all(files.begin(), files.end());
  std::vector<Path> found;
  for (const std::string& file : files)
    if (is_dictionary(file, all)) found.push_back(folder / file);
  return found;
}

DictionaryIndex scan_dictionaries(const Path& folder) {
  const auto files = files_below(folder);
  const std::set<std::string> all(files.begin(), files.end());
  DictionaryIndex index;
  std::set<std::string> taken{"index.json", "index.json.manifest.json"};
  for (const std::string& file : files) {
    if (!is_dictionary(file, all)) continue;
    try {
      index.dictionaries.push_back(described(folder, file, all));
      for (const IndexedFile& own : index.dictionaries.back().files) taken.insert(own.path);
    } catch (const Error& e) {
      index.problems.push_back({file, e.what()});
    }
  }
  for (const std::string& file : files)
    if (!taken.contains(file)) index.other_files.push_back(sized(folder, file));
  return index;
}

void hash_files(DictionaryIndex& index, const Path& folder, Progress& progress) {
  std::vector<IndexedFile*> all;
  for (IndexedDictionary& dictionary : index.dictionaries)
    for (IndexedFile& file : dictionary.files) all.push_back(&file);
  for (IndexedFile& file : index.other_files) all.push_back(&file);
  progress.begin("index", static_cast<std::int64_t>(all.size()), "file");
  std::int64_t done = 0;
  for (IndexedFile* file : all) {
    file->sha256 = sha256_of_file(folder / file->path);
    progress.update(++done, file->path);
  }
  progress.end();
}

nlohmann::ordered_json index_json(const DictionaryIndex& index) {
  Json out{{"format", kIndexFormat}, {"version", kIndexVersion}};
  out["dictionaries"] = Json::array();
  for (const IndexedDictionary& d : index.dictionaries) {
    Json one{{"path", d.path},       {"kind", d.kind},      {"activation", d.activation},
             {"model", d.model},     {"matrix", d.matrix},  {"n_snapshots", d.n_snapshots},
             {"d_model", d.d_model}, {"d_sae", d.d_sae},    {"seed", d.seed},
             {"steps", d.steps},     {"quality", d.quality}};
    if (!d.metrics_recomputed.is_null()) one["metrics_recomputed"] = d.metrics_recomputed;
    one["files"] = files_json(d.files);
    out["dictionaries"].push_back(std::move(one));
  }
  out["other_files"] = files_json(index.other_files);
  return out;
}

bool is_index(const Path& path) {
  if (path.filename().extension() != ".json" || !fs::is_regular_file(path)) return false;
  try {
    const Json json = read_json_file(path);
    return json.is_object() && json.value("format", Json()) == kIndexFormat;
  } catch (const Error&) {
    return false;
  }
}

DictionaryIndex read_index(const Path& path) {
  const std::string where = path.string();
  const Json json = read_json_file(path);
  require(json.is_object() && json.value("format", Json()) == kIndexFormat,
          "{}: is no index of dictionaries: 'format' is not '{}'", where, kIndexFormat);
  require(get_int(json, "version", where) == kIndexVersion, "{}: is version {}, expected {}", where,
          get_int(json, "version", where), kIndexVersion);
  DictionaryIndex index;
  for (const Json& d : list_in(json, "dictionaries", where)) {
    IndexedDictionary one{.path = read_path(d, where),
                          .kind = get_string(d, "kind", where),
                          .activation = get_string(d, "activation", where),
                          .model = get_string(d, "model", where),
                          .matrix = get_string(d, "matrix", where),
                          .n_snapshots = get_int(d, "n_snapshots", where),
                          .d_model = get_int(d, "d_model", where),
                          .d_sae = get_int(d, "d_sae", where),
                          .seed = get_int(d, "seed", where),
                          .quality = d.value("quality", Json::object()),
                          .metrics_recomputed = d.value("metrics_recomputed", Json())};
    const auto steps = d.find("steps");
    require(steps != d.end() && steps->is_array(), "{}: 'steps' is missing or no list", where);
    for (const Json& step : *steps) {
      require(step.is_number_integer(), "{}: 'steps' holds what is not an integer", where);
      one.steps.push_back(step.get<std::int64_t>());
    }
    one.files = read_files(d, "files", where);
    index.dictionaries.push_back(std::move(one));
  }
  index.other_files = read_files(json, "other_files", where);
  return index;
}

}  // namespace cresco::dictionaries
