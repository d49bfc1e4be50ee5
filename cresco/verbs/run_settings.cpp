#include "cresco/verbs/run_settings.h"

#include "cresco/artifacts/manifest.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

namespace cresco::verbs {
namespace {

using pretrain::Recipe;
using pretrain::RunFolder;

constexpr const char* kFiles[] = {"recipe.yaml", "data_order.json", "config.json",
                                  "tokenizer.json"};

// The fields of data_order.json that are not in the recipe under the same name, and those of the
// recipe's `data` that they follow from; the rest follow from all of `data`.
const std::map<std::string, std::vector<std::string>>& sources_of_order() {
  static const std::map<std::string, std::vector<std::string>> sources{
      {"sequences_per_step", {"batch.sequences"}},
      {"corpus", {"data.tokens"}},
      {"corpus_sha256", {"data.tokens"}},
      {"corpus_hash", {"data.tokens"}},
      {"layout", {"data.tokens"}},
      {"sources", {"data.tokens", "data.validation"}},
      {"split", {"data.tokens", "data.validation"}},
      {"validation", {"data.validation"}},
      {"validation_sha256", {"data.validation"}},
      {"seed", {"data.seed"}},
      {"order", {"data.order"}},
      {"window", {"data.window"}},
      {"sequence_length", {"data.sequence_length"}}};
  return sources;
}
constexpr std::string_view kOrder = "data_order.";

// "data.tokens" of "data.tokens[0].weight", "split" of "split".
std::string without_index(const std::string& path) { return path.substr(0, path.find('[')); }

bool is_within_field(const std::string& path, const std::string& field) {
  return path == field || path.starts_with(field + ".") || path.starts_with(field + "[");
}

bool is_allowed(const std::string& path, const std::vector<std::string>& allowed) {
  const auto names = [&](const std::string& field) {
    return std::any_of(allowed.begin(), allowed.end(),
                       [&](const std::string& a) { return is_within_field(field, a); });
  };
  if (names(path)) return true;
  if (!path.starts_with(kOrder)) return false;
  const auto found = sources_of_order().find(without_index(path.substr(kOrder.size())));
  if (found != sources_of_order().end())
    return std::any_of(found->second.begin(), found->second.end(), names);
  return std::any_of(allowed.begin(), allowed.end(),
                     [](const std::string& a) { return a == "data" || a.starts_with("data."); });
}

void require_allowed(const RunFolder& run, const std::vector<Difference>& changes,
                     const std::vector<std::string>& allowed) {
  for (const Difference& change : changes) {
    require(is_allowed(change.path, allowed),
            "{}: cannot go on with {}: {}; --allow-change {} if it is meant", run.path.string(),
            change.path.starts_with(kOrder) ? "other data" : "another recipe", to_text(change),
            change.path);
    for (const char* field : {"init", "seed", "loss_scale.initial"})
      require(!is_within_field(change.path, field),
              "{}: cannot go on with {}: it counts at the start of a run only", run.path.string(),
              to_text(change));
  }
}

}  // namespace

void write_settings(const RunFolder& run, const RunSettings& settings) {
  Recipe recipe = settings.recipe;
  const Path tokenizer = run.path / "tokenizer.json";
  write_json_file(run.path / "config.json",
                  recipe.model.to_json("float32", settings.vocabulary.end_of_text));
  if (std::filesystem::exists(settings.vocabulary.tokenizer))
    write_file(tokenizer, read_file(settings.vocabulary.tokenizer));
  else
    std::filesystem::remove(tokenizer);
  write_json_file(run.data_order(), settings.data_order);
  write_file(run.recipe(), fields_to_yaml([&recipe](FieldVisitor& v) { recipe.fields(v); }));
}

void check_allowed(const std::vector<std::string>& allowed) {
  Recipe recipe;
  std::vector<std::string> known{"data_order", "optimizer.rules"};
  for (const auto& [name, sources] : sources_of_order())
    known.push_back(std::string(kOrder) + name);
  for (const char* name : {"num_training_windows", "num_training_documents",
                           "num_validation_windows", "num_validation_documents"})
    known.push_back(std::string(kOrder) + name);
  const auto add = [&known](const std::string& path, auto&, const char*, const char*) {
    for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1))
      known.push_back(path.substr(0, dot));
    known.push_back(path);
  };
  for (const char* family : {"neox", "gpt2"}) {
    recipe.model.family = family;
    EachField each(add);
    recipe.fields(each);
  }
  for (const std::string& field : allowed)
    require_usage(std::find(known.begin(), known.end(), without_index(field)) != known.end(),
                  "--allow-change {}: a recipe has no such field{}", field,
                  did_you_mean(without_index(field), known));
}

std::vector<Difference> changes_of(const RunFolder& run, RunSettings& settings,
                                   const std::vector<std::string>& allowed) {
  Recipe& recipe = settings.recipe;
  const Recipe own = run.read_recipe();
  recipe.begins = own.begins;
  settings.data_order = pretrain::with_beginning(settings.data_order, own.begins);
  std::vector<Difference> changes = field_differences(own, recipe);
  for (Difference& change :
       differences(read_json_file(run.data_order()), settings.data_order, "data_order"))
    changes.push_back(std::move(change));
  if (changes.empty()) return changes;
  require_allowed(run, changes, allowed);

  const auto states = run.states();
  require(!states.empty(),
          "{}: has no state to go on from with a changed recipe; --overwrite begins anew",
          run.path.string());
  // Counted on from what made the updates before: not from a change that no update has followed.
  const std::int64_t step = states.back();
  recipe.begins = {};
  if (step > 0) {
    const RunFolder trained = run.settings_at(step - 1);
    const Recipe before = trained.read_recipe();
    const bool same =
        pretrain::same_training_data(read_json_file(trained.data_order()), settings.data_order);
    recipe.begins = {
        .step = step, .tokens = before.tokens_at(step), .place = same ? before.place_at(step) : 0};
  }
  settings.data_order = pretrain::with_beginning(settings.data_order, recipe.begins);
  require(recipe.total_steps() > step,
          "{}: is at step {}, and the changed recipe ends at step {}: nothing is left to train",
          run.path.string(), step, recipe.total_steps());
  return changes;
}

void record_changes(const RunFolder& run, const RunSettings& settings,
                    const std::vector<Difference>& changes) {
  const std::int64_t step = settings.recipe.begins.step;
  // What can fail by itself, before anything is changed.
  Json manifest = artifacts::read_manifest(run.path);
  if (manifest.is_null()) manifest = Json::object();
  require(manifest.is_object() && (!manifest.contains("changes") || manifest["changes"].is_array()),
          "{}: is no manifest of this program", artifacts::manifest_path(run.path).string());
  if (std::filesystem::exists(settings.vocabulary.tokenizer))
    read_file(settings.vocabulary.tokenizer);

  if (step > 0 && !std::filesystem::exists(run.earlier(step))) {
    const RunFolder trained = run.settings_at(step - 1);
    AtomicFolder earlier(run.earlier(step));
    for (const char* file : kFiles)
      if (std::filesystem::exists(trained.path / file))
        write_file(earlier.folder() / file, read_file(trained.path / file));
    earlier.commit();
  }
  std::filesystem::remove(run.complete());
  for (const std::int64_t later : run.changes())
    if (later > step) remove_folder(run.earlier(later));
  for (const std::int64_t later : run.snapshots())
    if (later > step) remove_folder(run.snapshot(later));

  Json& all = manifest["changes"];
  if (all.is_null()) all = Json::array();
  std::erase_if(all.get_ref<Json::array_t&>(), [&](const Json& one) {
    return one.is_object() && one.value("step", std::int64_t{0}) > step;
  });
  for (const Difference& change : changes) {
    const Json entry{
        {"step", step}, {"field", change.path}, {"before", change.before}, {"now", change.now}};
    const auto last = std::find_if(all.rbegin(), all.rend(), [&](const Json& one) {
      return one.is_object() && one.value("field", "") == change.path;
    });
    if (last == all.rend() || *last != entry) all.push_back(entry);
  }
  write_json_file(artifacts::manifest_path(run.path), manifest);
  write_settings(run, settings);
}

}  // namespace cresco::verbs
