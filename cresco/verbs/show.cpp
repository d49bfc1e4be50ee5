#include "cresco/verbs/show.h"

#include "cresco/artifacts/table.h"
#include "cresco/base/json.h"
#include "cresco/base/pattern.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/corpora/open_tokens.h"
#include "cresco/corpora/tokenize.h"
#include "cresco/families/pythia.h"
#include "cresco/formats/npy.h"
#include "cresco/formats/npz.h"
#include "cresco/formats/safetensors.h"
#include "cresco/text/tokenizer.h"
#include "cresco/trajectories/stack.h"
#include "cresco/trajectories/trajectory.h"
#include "cresco/verbs/show_dictionary.h"
#include "cresco/verbs/show_pythia.h"
#include "cresco/verbs/show_settings.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace cresco::verbs {
namespace {

Json tensors_json(const std::vector<formats::StoredTensor>& tensors) {
  Json out = Json::object();
  for (const auto& t : tensors)
    out[t.name] = {{"dtype", formats::name_of(t.dtype)}, {"shape", t.shape}};
  return out;
}

// One line a key; what is long is cut, since --json has it whole.
std::string as_text(const Json& summary) {
  std::string text;
  for (const auto& [key, value] : summary.items()) {
    if (key == "tensors") {
      text += fmt::format("tensors ({}):\n", value.size());
      for (const auto& [name, t] : value.items())
        text += fmt::format("  {:<56} {:<5} {}\n", escape_for_terminal(name),
                            t["dtype"].get<std::string>(),
                            formats::shape_text(t["shape"].get<std::vector<std::int64_t>>()));
    } else if (key == "steps") {
      text += fmt::format("steps: {}\n", list_steps(value.get<std::vector<std::int64_t>>()));
    } else if (key == "dtypes") {
      for (const auto& [name, steps] : value.items())
        text += fmt::format("dtype {}: {} snapshots, steps {}\n", name, steps.size(),
                            list_steps(steps.get<std::vector<std::int64_t>>()));
    } else if (value.is_string()) {
      text += fmt::format("{}: {}\n", key, escape_for_terminal(value.get<std::string>()));
    } else if (value.is_object() && !value.empty()) {
      text += key + ":\n";
      for (const auto& [name, item] : value.items())
        text += fmt::format("  {}: {}\n", escape_for_terminal(name),
                            escape_for_terminal(to_line(item)));
    } else {
      text += fmt::format("{}: {}\n", key, escape_for_terminal(to_line(value)));
    }
  }
  return text;
}

// What made it, when it says so.
void add_provenance(const Path& path, Json& summary) {
  const Json manifest = artifacts::read_manifest(path);
  if (!manifest.is_object()) return;
  Json made;
  for (const char* key : {"command", "version", "written", "host", "facts"})
    if (manifest.contains(key)) made[key] = manifest[key];
  summary["made_by"] = made;
}

Json show_snapshot(const Path& path) {
  const trajectories::Snapshot snapshot = trajectories::open_snapshot(path);
  Json out{{"kind", "snapshot"}, {"layout", "hf_model"}, {"steps", {snapshot.step()}}};
  if (!snapshot.config().is_null()) out["config"] = snapshot.config();
  if (!snapshot.foreign_objects().empty()) out["closed_objects"] = snapshot.foreign_objects();
  out["tensors"] = tensors_json(snapshot.tensors());
  return out;
}

// "F16", or "F16 and U8" where a snapshot holds several.
std::string dtypes_of(const trajectories::Snapshot& snapshot) {
  std::set<std::string_view> names;
  for (const auto& tensor : snapshot.tensors()) names.insert(formats::name_of(tensor.dtype));
  return fmt::format("{}", fmt::join(names, " and "));
}

std::int64_t last_of(const std::map<std::string, std::vector<std::int64_t>>& steps_of) {
  std::int64_t last = 0;
  for (const auto& [name, steps] : steps_of) last = std::max(last, steps.back());
  return last;
}

Json show_trajectory(const Path& path) {
  const trajectories::Trajectory trajectory(path);
  Json out{{"kind", trajectory.layout() == "run" ? "run" : "trajectory"},
           {"layout", trajectory.layout()},
           {"model", trajectory.model()},
           {"steps", trajectory.steps()}};
  // From headers alone: which steps are stored in which type, and what cannot be opened.
  std::map<std::string, std::vector<std::int64_t>> dtypes;
  for (const std::int64_t step : trajectory.steps()) {
    try {
      dtypes[dtypes_of(trajectory.open(step))].push_back(step);
    } catch (const Error& e) {
      out["unreadable"].push_back({{"step", step}, {"error", e.what()}});
    }
  }
  if (dtypes.empty())
    fail("{}: none of its {} snapshots can be opened: {}", path.string(), trajectory.steps().size(),
         out["unreadable"][0]["error"].get<std::string>());
  for (const auto& [name, steps] : dtypes) out["dtypes"][name] = steps;
  if (!trajectory.notes().empty()) out["notes"] = trajectory.notes();
  const trajectories::Snapshot last = trajectory.open(last_of(dtypes));
  if (!last.config().is_null()) out["config"] = last.config();
  if (trajectory.layout() == "run") out["complete"] = std::filesystem::exists(path / "COMPLETE");
  out["tensors"] = tensors_json(last.tensors());
  return out;
}

Json show_tables(const Path& path) {
  Json out{{"kind", "tables"}};
  std::vector<Path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const Path& file : files) {
    if (file.extension() == ".csv") {
      const artifacts::Table table = artifacts::read_csv(file);
      out["tables"][file.filename().string()] = {{"rows", table.num_rows()},
                                                 {"columns", table.columns()}};
    } else if (file.extension() == ".npy") {
      const formats::NpyFile array = formats::read_npy(file);
      out["tables"][file.filename().string()] = {{"dtype", formats::name_of(array.dtype)},
                                                 {"shape", array.shape}};
    }
  }
  return out;
}

Json show_tensors(const Path& path) {
  const formats::SafetensorsFile file(path);
  const auto format = file.metadata().find("format");
  if (format != file.metadata().end() && format->second == trajectories::kStackFormat) {
    const trajectories::Stack stack(path);
    return {{"kind", "stack"},
            {"layout", "stack"},
            {"model", stack.info().model},
            {"matrix", stack.info().matrix},
            {"steps", stack.steps()},
            {"tensors", tensors_json(file.tensors())}};
  }
  return {{"kind", "tensors"},
          {"metadata", file.metadata()},
          {"tensors", tensors_json(file.tensors())}};
}

Json show_corpus(const Path& path) {
  const auto tokens = corpora::open_tokens(path);
  Json out{{"kind", "corpus"},
           {"layout", tokens->layout()},
           {"num_tokens", tokens->num_tokens()},
           {"bytes_per_token", tokens->bytes_per_token()}};
  if (tokens->names_documents()) out["num_documents"] = tokens->num_sequences();
  if (const std::string warning = tokens->warning(); !warning.empty()) out["warning"] = warning;
  if (const auto files = tokens->files(); !files.empty()) add_provenance(files.front(), out);
  return out;
}

Json show_tokenizer(const Path& path) {
  const text::Tokenizer tokenizer = text::read_tokenizer(path);
  Json out{{"kind", "tokenizer"},
           {"vocab_size", tokenizer.vocab_size()},
           {"num_merges", tokenizer.parts().merges.size()},
           {"added_tokens", tokenizer.parts().added_tokens.size()},
           {"keeps_bytes", tokenizer.keeps_bytes()}};
  if (const auto id = tokenizer.end_of_text()) out["end_of_text"] = *id;
  return out;
}

Json show_array(const Path& path) {
  const formats::NpyFile array = formats::read_npy(path);
  return {{"kind", "tensors"},
          {"tensors",
           {{path.filename().string(),
             {{"dtype", formats::name_of(array.dtype)}, {"shape", array.shape}}}}}};
}

Json show_arrays(const Path& path) {
  const formats::NpzFile file(path);
  Json tensors = Json::object();
  for (const formats::NpzArray& array : file.arrays())
    tensors[array.name] = {{"dtype", formats::name_of(array.header.dtype)},
                           {"shape", array.header.shape}};
  return {{"kind", "tensors"}, {"tensors", tensors}};
}

Json show_folder(const Path& path) {
  if (const auto layout = trajectories::find_layout(path))
    return layout->name == "hf_model" ? show_snapshot(path) : show_trajectory(path);
  std::optional<Path> index;
  bool has_tables = false;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const Path extension = entry.path().extension();
    has_tables = has_tables || extension == ".csv" || extension == ".npy";
    if (extension == ".idx") index = entry.path();
  }
  if (has_tables) return show_tables(path);
  if (index) return show_corpus(*index);
  if (const auto tree = show_tree_below(path)) return *tree;
  return show_trajectory(path);  // which says what was looked for
}

Json show_any(const Path& path) {
  if (const auto recipe = show_recipe(path.string())) return *recipe;
  if (const auto found = show_dictionaries(path)) return *found;
  if (std::filesystem::is_directory(path)) return show_folder(path);
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") return show_tensors(path);
  if (extension == ".npy") return show_array(path);
  if (extension == ".npz") return show_arrays(path);
  if (extension == ".json") return show_tokenizer(path);
  const bool is_file = std::filesystem::is_regular_file(path);
  const bool has_index = std::filesystem::exists(Path(path).replace_extension(".idx"));
  if (extension == ".idx" || (extension == ".bin" && has_index) ||
      std::filesystem::exists(path.string() + ".bin") || is_pattern(path))
    return show_corpus(path);
  if (is_file && trajectories::holds_weights(path)) return show_snapshot(path);
  if (extension == ".bin") return show_corpus(path);
  if (!is_file && trajectories::find_layout(path))
    return show_trajectory(path);  // <folder>/<model>
  require(std::filesystem::exists(path), "{}: no such file or folder{}", path.string(),
          did_you_mean(path.string(), families::pythia_names()));
  fail(
      "{}: is not recognised; show reads runs, snapshots, stacks, dictionaries, corpora, "
      "tokenizers, tables and "
      "tensor files",
      path.string());
}

}  // namespace

Outcome run_show(const ShowConfig& config, VerbContext&) {
  if (!config.against.empty()) return show_against(config.path, config.against);
  if (!std::filesystem::exists(config.path))
    if (const auto shown = show_pythia(config.path, config.step)) return *shown;
  require_usage(config.step.empty(), "--step is for the models of the Pythia suite");
  Json summary = show_any(config.path);
  if (std::filesystem::exists(config.path) && !summary.contains("made_by"))
    add_provenance(config.path, summary);
  const bool is_tree = summary["kind"] == "dictionaries";
  return {.summary = summary, .text = is_tree ? tree_as_text(summary) : as_text(summary)};
}

}  // namespace cresco::verbs
