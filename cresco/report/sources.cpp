#include "cresco/report/sources.h"

#include "cresco/artifacts/metrics_log.h"
#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"
#include "cresco/formats/npy.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace cresco::report {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTables[] = {"baselines.csv",
                                   "continuations.csv",
                                   "quality_per_snapshot.csv",
                                   "quality_pooled.csv",
                                   "linear_baselines.csv",
                                   "heldout.csv",
                                   "pca.csv",
                                   "readout_functional_fidelity.csv",
                                   "strata_summary.csv",
                                   "features.csv",
                                   "population.csv",
                                   "promoted_tokens.csv",
                                   "suppressed_tokens.csv",
                                   "neighbours.csv",
                                   "firing_density.csv",
                                   "sweep.csv",
                                   "steps.csv",
                                   "singular_values.csv",
                                   "weight_spectra.csv",
                                   "planted.csv",
                                   "matches.csv",
                                   "match_summary.csv",
                                   "match_histogram.csv",
                                   "pairs.csv"};
constexpr const char* kArrays[] = {"decoder_norms.npy", "rates.npy"};
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kManifestEnd = ".manifest.json";

bool is_file(const Path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_source(const Path& folder) {
  const auto holds = [&](const char* name) { return is_file(folder / name); };
  return holds(kMetrics) || holds("manifest.json") ||
         std::any_of(std::begin(kTables), std::end(kTables), holds);
}

// One column per key, in the order in which the keys first appear.
artifacts::Table metrics_table(const Path& path) {
  const std::vector<Json> lines = artifacts::read_metrics(path);
  std::vector<std::string> columns;
  for (const Json& line : lines)
    for (const auto& [key, value] : line.items())
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
  require(columns.size() <= 1000, "{}: {} different keys, expected one table", path.string(),
          columns.size());
  artifacts::Table table(columns);
  for (const Json& line : lines) {
    std::vector<std::string> cells;
    for (const std::string& column : columns) {
      const auto found = line.find(column);
      if (found == line.end() || found->is_null()) {
        cells.emplace_back();
      } else if (found->is_number_float()) {
        cells.push_back(artifacts::Table::cell(found->get<double>()));
      } else {
        cells.push_back(found->is_string() ? found->get<std::string>() : to_line(*found));
      }
    }
    table.add_row(std::move(cells));
  }
  return table;
}

Matrix read_matrix(const Path& path) {
  const formats::NpyFile file = formats::read_npy(path);
  require(file.shape.size() == 2, "{}: an array of {} axes, expected (snapshots, features)",
          path.string(), file.shape.size());
  const std::vector<double> numbers = formats::npy_numbers(file, path.string());
  return {.rows = static_cast<std::size_t>(file.shape[0]),
          .columns = static_cast<std::size_t>(file.shape[1]),
          .values = std::vector<float>(numbers.begin(), numbers.end())};
}

std::vector<std::int64_t> steps_of_snapshots(const Path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step")) continue;
    std::int64_t step = 0;
    const char* const end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + 4, end, step);
    if (error == std::errc() && rest == end) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Source open_source(const Path& folder, const std::string& name) {
  Source source{.name = name, .path = folder.string()};
  const auto found = [&](const char* file) {
    if (!is_file(folder / file)) return false;
    source.files.push_back(folder / file);
    return true;
  };
  if (found("manifest.json")) source.manifest = read_json_file(folder / "manifest.json");
  if (found("config.json")) source.model = read_json_file(folder / "config.json");
  if (found("recipe.yaml")) source.recipe = read_file(folder / "recipe.yaml", 1 << 20);
  if (found(kMetrics)) source.tables[kMetrics] = metrics_table(folder / kMetrics);
  for (const char* file : kTables)
    if (found(file)) source.tables[file] = artifacts::read_csv(folder / file);
  for (const char* file : kArrays)
    if (found(file)) source.arrays[file] = read_matrix(folder / file);
  source.snapshot_steps = steps_of_snapshots(folder / "snapshots");
  return source;
}

// A file with its manifest beside it: a tokenizer, a corpus, a stack.
Source open_manifest(const Path& path) {
  std::string name = path.filename().string();
  name.resize(name.size() - std::string_view(kManifestEnd).size());
  return {.name = name,
          .path = (path.parent_path() / name).string(),
          .manifest = read_json_file(path),
          .files = {path}};
}

std::string name_of(const Path& folder) {
  const Path whole = fs::absolute(folder).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

void open_folder(const Path& folder, Sources& out) {
  std::error_code error;
  require(fs::is_directory(folder, error),
          "{}: not a folder; a report is made of folders of tables", folder.string());
  const std::size_t before = out.size();
  if (is_source(folder)) out.push_back(open_source(folder, name_of(folder)));
  std::vector<Path> inside;
  for (const auto& entry : fs::directory_iterator(folder)) inside.push_back(entry.path());
  std::sort(inside.begin(), inside.end());
  for (const Path& path : inside) {
    const std::string name = path.filename().string();
    if (name.starts_with('.')) continue;
    if (fs::is_directory(path, error) && is_source(path)) {
      out.push_back(open_source(path, name));
    } else if (name.size() > std::string_view(kManifestEnd).size() &&
               name.ends_with(kManifestEnd) && !name.ends_with(".html.manifest.json") &&
               is_file(path)) {
      out.push_back(open_manifest(path));
    }
  }
  require(out.size() > before,
          "{}: holds nothing that a report is made of (metrics.jsonl, a manifest, {})",
          folder.string(), fmt::join(kTables, ", "));
}

// Two folders of one name are told apart by the folder they stand in.
void make_names_unique(Sources& sources) {
  std::map<std::string, int> count;
  for (const Source& source : sources) ++count[source.name];
  for (Source& source : sources)
    if (count[source.name] > 1)
      source.name = name_of(Path(source.path).parent_path()) + "/" + source.name;
}

std::string written(const Source& source) {
  return source.manifest.is_object() && source.manifest.contains("written") &&
                 source.manifest["written"].is_string()
             ? source.manifest["written"].get<std::string>()
             : "~";  // after every date
}

}  // namespace

Sources open_sources(const std::vector<Path>& folders) {
  Sources sources;
  for (const Path& folder : folders) open_folder(folder, sources);
  std::set<Path> seen;  // `report demo demo/run` names the run twice
  std::erase_if(sources, [&](const Source& source) {
    return !seen.insert(fs::weakly_canonical(source.path)).second;
  });
  make_names_unique(sources);
  // In the order in which they were made, as far as that is known.
  std::stable_sort(sources.begin(), sources.end(),
                   [](const Source& a, const Source& b) { return written(a) < written(b); });
  return sources;
}

}  // namespace cresco::report
