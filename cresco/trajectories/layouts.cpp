#include "cresco/trajectories/layouts.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/safetensors.h"
#include "cresco/trajectories/open_snapshot.h"
#include "cresco/trajectories/stack.h"

#include <algorithm>
#include <functional>
#include <map>

namespace cresco::trajectories {
namespace {

namespace fs = std::filesystem;

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 18 &&
         text.find_first_not_of("0123456789") == std::string_view::npos &&
         (text.size() == 1 || text[0] != '0');
}

// Names in a folder, sorted; macOS's ._ files and temporaries left out.
std::vector<std::string> names_in(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("._") && !name.starts_with(kTemporaryPrefix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string name_of(const Path& path) {
  std::error_code error;
  const Path whole = fs::weakly_canonical(path, error);
  return whole.filename().string();
}

std::optional<Path> first_existing(const std::vector<Path>& paths) {
  for (const Path& path : paths)
    if (fs::exists(path)) return path;
  return std::nullopt;
}

// Without a slash at its end.
Path without_slash(const Path& path) {
  const Path normal = path.lexically_normal();
  return normal.filename().empty() && normal.has_relative_path() ? normal.parent_path() : normal;
}

// Snapshots by series: one training is one series.
using Series = std::map<std::string, std::vector<SnapshotPlace>>;

// The series that is the training itself: plain steps, else stage 1, else the only one.
void choose_series(Series series, Layout& layout) {
  std::string chosen;
  if (!series.contains(chosen)) chosen = "stage1-";
  if (!series.contains(chosen)) {
    std::vector<std::string> names;
    for (const auto& [name, places] : series) names.push_back(name + "step*");
    require(names.size() == 1, "{}: holds several trainings and no first stage: {}",
            layout.path.string(), join(names, ", "));
    chosen = series.begin()->first;
  }
  layout.places = std::move(series[chosen]);
  series.erase(chosen);
  for (const auto& [name, places] : series)
    layout.notes.push_back(
        fmt::format("{} snapshots of {}step* are left out: another stage", places.size(), name));
  std::sort(layout.places.begin(), layout.places.end(),
            [](const auto& a, const auto& b) { return a.step < b.step; });
  for (std::size_t i = 1; i < layout.places.size(); ++i)
    require(layout.places[i - 1].step != layout.places[i].step,
            "{}: '{}' and '{}' are the same step", layout.path.string(),
            layout.places[i - 1].revision, layout.places[i].revision);
}

// Folders named after steps whose contents `is_ours`; what it makes of each is its place.
Series step_folders(const Path& folder,
                    const std::function<std::optional<Path>(const Path&)>& place_of) {
  Series series;
  for (const std::string& name : names_in(folder)) {
    const auto revision = parse_revision(name);
    if (!revision || !fs::is_directory(folder / name)) continue;
    if (const auto place = place_of(folder / name))
      series[revision->series].push_back({revision->step, {*place}, name});
  }
  return series;
}

// --- 1. a run of ours -------------------------------------------------------------------------

std::optional<Layout> recognise_run(const Path& path) {
  if (!fs::exists(path / "recipe.yaml") || !fs::is_directory(path / "snapshots"))
    return std::nullopt;
  Layout layout{.name = "run", .model = name_of(path), .path = path};
  Series series = step_folders(path / "snapshots", [](const Path& p) { return p; });
  require(!series[""].empty(), "{}: holds no snapshots yet", path.string());
  choose_series(std::move(series), layout);
  layout.tokenizer = first_existing({path / "tokenizer.json"});
  return layout;
}

// --- 5. recipe-control arms: ckpts/step<N>/model_fp16.pt --------------------------------------

std::optional<Layout> recognise_recipe_control(const Path& path) {
  const Path folder = fs::is_directory(path / "ckpts") ? path / "ckpts" : path;
  Series series = step_folders(
      folder, [](const Path& step) { return first_existing({step / "model_fp16.pt"}); });
  if (series.empty()) return std::nullopt;
  Layout layout{.name = "recipe_control", .path = path};
  layout.model = folder == path && name_of(path) == "ckpts"
                     ? fs::weakly_canonical(path).parent_path().filename().string()
                     : name_of(path);
  choose_series(std::move(series), layout);
  layout.tokenizer = first_existing({path / "tokenizer.json"});
  return layout;
}

// --- 4. <slug>_step<N>_{wu,we}.pt, in the folder or in snapshots/<name>/ under it --------------

struct MatrixFile {
  std::string slug;
  std::int64_t step = 0;
};

std::optional<MatrixFile> parse_matrix_file(const std::string& name) {
  if (!name.ends_with("_wu.pt") && !name.ends_with("_we.pt")) return std::nullopt;
  const std::string stem = name.substr(0, name.size() - 6);
  const std::size_t at = stem.rfind("_step");
  if (at == std::string::npos || at == 0 || !is_number(stem.substr(at + 5))) return std::nullopt;
  return MatrixFile{stem.substr(0, at), parse_int(stem.substr(at + 5), name)};
}

std::optional<Layout> recognise_matrix_files(const Path& path) {
  // <folder>/<slug> chooses one model of a folder that holds several.
  const Path parent_folder = path.has_parent_path() ? path.parent_path() : Path(".");
  const bool is_slug = !fs::exists(path) && fs::is_directory(parent_folder);
  const Path root = is_slug ? parent_folder : path;
  const std::string wanted = is_slug ? path.filename().string() : "";
  // The canonical place comes first: a step that stands there too is read from there.
  std::vector<Path> folders;
  for (const Path& parent : {root / "snapshots", root})
    for (const std::string& name : names_in(parent))
      if ((parent != root || root.filename() == "snapshots") && fs::is_directory(parent / name))
        folders.push_back(parent / name);
  folders.push_back(root);

  std::map<std::string, std::map<std::int64_t, std::map<std::string, Path>>> models;
  for (const Path& folder : folders)
    for (const std::string& name : names_in(folder))
      if (const auto file = parse_matrix_file(name); file && (!is_slug || file->slug == wanted))
        models[file->slug][file->step].try_emplace(name, folder / name);
  if (models.empty()) return std::nullopt;
  std::vector<std::string> slugs;
  for (const auto& [slug, steps] : models) slugs.push_back(slug);
  require(slugs.size() == 1, "{}: holds matrices of {} models; give {}/<one of {}>", root.string(),
          slugs.size(), root.string(), escape_for_terminal(join(slugs, ", ")));
  Layout layout{.name = "wu_pt", .model = slugs[0], .path = path};
  for (const auto& [step, files] : models.begin()->second) {
    SnapshotPlace place{step, {}, fmt::format("step{}", step)};
    for (const auto& [name, file] : files) place.paths.push_back(file);
    layout.places.push_back(std::move(place));
  }
  return layout;
}

// --- 3. a hub cache ---------------------------------------------------------------------------

bool is_cache(const Path& path) {
  return name_of(path).starts_with("models--") && fs::is_directory(path / "snapshots");
}

std::vector<Path> caches_in(const Path& folder) {
  std::vector<Path> caches;
  for (const std::string& name : names_in(folder))
    if (is_cache(folder / name)) caches.push_back(folder / name);
  return caches;
}

// models--EleutherAI--pythia-160m -> EleutherAI/pythia-160m
std::string hub_id(const Path& cache) {
  std::string id = name_of(cache).substr(8);
  if (const std::size_t at = id.find("--"); at != std::string::npos) id.replace(at, 2, "/");
  return id;
}

// Names below refs/, with their folders: step3000, refs/pr/1.
std::vector<std::string> refs_of(const Path& cache) {
  std::vector<std::string> refs;
  std::error_code error;
  fs::recursive_directory_iterator entry(cache / "refs", error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (entry.depth() >= 8) entry.disable_recursion_pending();
    std::error_code unreadable;
    if (entry->is_regular_file(unreadable) && !entry->is_symlink(unreadable))
      refs.push_back(entry->path().lexically_relative(cache / "refs").string());
  }
  std::sort(refs.begin(), refs.end());
  return refs;
}

Layout cache_layout(const Path& path, const Path& cache) {
  Layout layout{.name = "hf_cache", .model = hub_id(cache), .path = path};
  Series series;
  for (const std::string& ref : refs_of(cache)) {
    const auto revision = parse_revision(ref);
    if (!revision) continue;
    if (const auto folder = cached_snapshot(cache, ref))
      series[revision->series].push_back({revision->step, {*folder}, ref});
    else
      layout.notes.push_back(fmt::format("refs/{}: names no snapshot that is in the cache", ref));
  }
  const auto main = cached_snapshot(cache, "main");
  if (main) layout.tokenizer = first_existing({*main / "tokenizer.json"});
  if (!series.empty()) {
    choose_series(std::move(series), layout);
    return layout;
  }
  // A model without steps: its main branch, or the one commit that was fetched.
  const auto commits = names_in(cache / "snapshots");
  require(
      main || commits.size() == 1,
      "{}: none of its refs names a step or main with a snapshot that is there, and it holds {} "
      "snapshots",
      cache.string(), commits.size());
  const Path only = main ? *main : cache / "snapshots" / commits[0];
  layout.places = {{0, {only}, main ? "main" : commits[0]}};
  return layout;
}

// The only snapshot of a cache that was downloaded for one step, whatever its refs are called.
std::optional<Path> only_snapshot(const Path& cache, const std::string& step_name) {
  if (const auto named = cached_snapshot(cache, step_name)) return named;
  const auto names = names_in(cache / "snapshots");
  if (names.size() != 1) return std::nullopt;
  return cache / "snapshots" / names[0];
}

std::optional<Layout> recognise_cache(const Path& path) {
  if (is_cache(path)) return cache_layout(path, path);
  for (const Path& folder : {path, path / "hub"}) {
    const auto caches = caches_in(folder);
    std::vector<std::string> names;
    for (const Path& cache : caches) names.push_back(cache.filename().string());
    require(caches.size() <= 1, "{}: caches {} models; give one of {}", folder.string(),
            caches.size(), join(names, ", "));
    if (!caches.empty()) return cache_layout(path, caches[0]);
  }
  // A cache for each step: step3000/models--EleutherAI--pythia-70m/...
  Layout layout{.name = "hf_cache", .path = path};
  Series series = step_folders(path, [&](const Path& step) -> std::optional<Path> {
    const auto caches = caches_in(step);
    if (caches.empty()) return is_model_folder(step) ? std::optional(step) : std::nullopt;
    require(caches.size() == 1, "{}: caches {} models, expected one", step.string(), caches.size());
    const std::string id = hub_id(caches[0]);
    require(layout.model.empty() || layout.model == id, "{}: caches {}, other steps {}",
            step.string(), id, layout.model);
    layout.model = id;
    const auto snapshot = only_snapshot(caches[0], step.filename().string());
    if (!snapshot)
      layout.notes.push_back(fmt::format("{}: holds no snapshot of that step", caches[0].string()));
    return snapshot;
  });
  if (layout.model.empty()) return std::nullopt;
  require(!series.empty(), "{}: none of its caches holds a snapshot", path.string());
  choose_series(std::move(series), layout);
  return layout;
}

// --- 2. step<N>/ folders in Hugging Face's layout; 6. a stack; one model ------------------------

// Every step<N>/ is one, so that one without a model is missed when it is opened; but one of them
// has to hold a model.
std::optional<Layout> recognise_step_folders(const Path& path) {
  Series series = step_folders(path, [](const Path& p) { return p; });
  const auto holds_model = [](const auto& one) {
    return std::any_of(one.second.begin(), one.second.end(),
                       [](const SnapshotPlace& p) { return is_model_folder(p.paths.front()); });
  };
  if (!std::any_of(series.begin(), series.end(), holds_model)) return std::nullopt;
  Layout layout{.name = "hf_steps", .model = name_of(path), .path = path};
  if (is_model_folder(path))
    layout.notes.push_back("the model beside the step folders is none of the steps");
  choose_series(std::move(series), layout);
  return layout;
}

std::optional<Layout> recognise_stack(const Path& path) {
  if (!fs::is_regular_file(path) || path.extension() != ".safetensors") return std::nullopt;
  const formats::SafetensorsFile file(path);
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != kStackFormat) return std::nullopt;
  const Stack stack(path);
  Layout layout{.name = "stack", .model = stack.info().model, .path = path};
  for (const std::int64_t step : stack.steps())
    layout.places.push_back({step, {path}, fmt::format("step{}", step)});
  layout.tokenizer = first_existing({path.parent_path() / "tokenizer.json"});
  return layout;
}

// models--org--name/snapshots/<commit>: the model's name, and the step of the ref that names it.
void name_by_cache(const Path& path, Layout& layout) {
  std::error_code error;
  const Path folder = fs::weakly_canonical(path, error);
  const Path cache = folder.parent_path().parent_path();
  if (folder.parent_path().filename() != "snapshots" || !is_cache(cache)) return;
  layout.model = hub_id(cache);
  for (const std::string& ref : refs_of(cache))
    if (const auto revision = parse_revision(ref);
        revision && cached_snapshot(cache, ref) == folder)
      layout.places[0].step = revision->step, layout.places[0].revision = ref;
}

// A model alone is a trajectory of one step.
std::optional<Layout> recognise_model(const Path& path) {
  const bool is_file = fs::is_regular_file(path);
  if (!is_file && !is_model_folder(path)) return std::nullopt;
  Layout layout{.name = "hf_model", .model = name_of(path), .path = path};
  layout.places = {{0, {path}, ""}};
  if (is_file) {
    layout.places[0].step = open_weights_file(path, step_of_file(path), path).step();
    layout.tokenizer = first_existing({fs::absolute(path).parent_path() / "tokenizer.json"});
  } else {
    layout.places[0].step = step_of_name(path).value_or(0);
    name_by_cache(path, layout);
  }
  return layout;
}

}  // namespace

std::optional<Revision> parse_revision(const std::string& name) {
  // The series is made of words such as "stage1-" and "ingredient2-".
  const std::size_t at = name.starts_with("step") ? 0 : name.find("-step");
  if (at == std::string::npos) return std::nullopt;
  const std::string series = at == 0 ? "" : name.substr(0, at + 1);
  if (at != 0 && !series.starts_with("stage")) return std::nullopt;
  if (series.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
    return std::nullopt;
  std::string digits = name.substr(series.size() + 4);
  if (const std::size_t tokens = digits.find("-tokens");
      tokens != std::string::npos && digits.ends_with('B') &&
      is_number(std::string_view(digits).substr(tokens + 7, digits.size() - tokens - 8)))
    digits.resize(tokens);
  if (!is_number(digits)) return std::nullopt;
  return Revision{series, parse_int(digits, name)};
}

std::optional<Path> cached_snapshot(const Path& cache, const std::string& revision) {
  const Path ref = cache / "refs" / revision;
  if (!fs::is_regular_file(ref) || fs::is_symlink(ref)) return std::nullopt;
  if (fs::file_size(ref) > 4096) return std::nullopt;
  const std::string commit(trim(read_file(ref, 4096)));
  if (commit.size() != 40 || commit.find_first_not_of("0123456789abcdef") != std::string::npos)
    return std::nullopt;
  const Path folder = cache / "snapshots" / commit;
  return fs::is_directory(folder) ? std::optional(folder) : std::nullopt;
}

Snapshot Layout::open(const SnapshotPlace& place) const {
  const Path& first = place.paths.front();
  if (name == "stack") return open_stack_step(first, place.step);
  if (name == "wu_pt") return open_matrix_files(place.paths, place.step, path);
  if (name == "recipe_control") return open_weights_file(first, place.step, path);
  if (name == "hf_model" && !fs::is_directory(first))
    return open_weights_file(first, place.step, path);
  return open_model_folder(first, place.step, path);
}

std::optional<Layout> find_layout(const Path& given) {
  const Path path = without_slash(given);
  constexpr std::optional<Layout> (*kLayouts[])(const Path&) = {
      recognise_run,          recognise_stack, recognise_recipe_control, recognise_cache,
      recognise_step_folders, recognise_model, recognise_matrix_files};
  for (const auto& layout_at : kLayouts) {
    auto layout = layout_at(path);
    if (!layout) continue;
    if (!layout->tokenizer && layout->name != "wu_pt")
      layout->tokenizer = first_existing(
          {path / "tokenizer.json", layout->places.back().paths.front() / "tokenizer.json"});
    if (layout->tokenizer) layout->tokenizer = follow_link(*layout->tokenizer, path);
    return layout;
  }
  return std::nullopt;
}

Layout recognise(const Path& path) {
  if (auto layout = find_layout(path)) return std::move(*layout);
  require(fs::exists(path), "{}: no such file or folder", path.string());
  fail(
      "{}: is no trajectory: a run, step<N>/ folders of models, a hub cache with refs/step<N>, "
      "<model>_step<N>_wu.pt files, ckpts/step<N>/model_fp16.pt, or a stack",
      path.string());
}

}  // namespace cresco::trajectories
