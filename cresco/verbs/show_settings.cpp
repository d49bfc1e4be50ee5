#include "cresco/verbs/show_settings.h"

#include "cresco/base/json.h"
#include "cresco/dictionaries/released.h"
#include "cresco/pretrain/recipe.h"
#include "cresco/pretrain/run_folder.h"

#include <algorithm>
#include <array>

namespace cresco::verbs {
namespace {

// "recipe.yaml:arm" is a file and an arm, unless a file has that very name.
struct RecipeName {
  std::string file, arm;
};
std::optional<RecipeName> recipe_name(const std::string& path) {
  RecipeName name{path, ""};
  if (!std::filesystem::exists(path))
    if (const std::size_t colon = path.rfind(':'); colon != std::string::npos)
      name = {path.substr(0, colon), path.substr(colon + 1)};
  const std::string extension = Path(name.file).extension().string();
  if ((extension != ".yaml" && extension != ".yml") || !std::filesystem::exists(name.file))
    return std::nullopt;
  return name;
}

Json recipe_json(const SettingsFile& file, const std::string& arm) {
  pretrain::Recipe recipe;
  const Fields fields = [&](FieldVisitor& v) { recipe.fields(v); };
  file.apply(fields, arm);
  return fields_to_json(fields);
}

Json settings_at(const std::string& path) {
  if (const auto name = recipe_name(path)) return recipe_json(SettingsFile(name->file), name->arm);
  const Path folder = path;
  if (const pretrain::RunFolder run{folder}; run.is_run())
    return recipe_json(SettingsFile(run.recipe().string()), "");
  if (std::filesystem::exists(folder / "settings.json"))
    return read_json_file(folder / "settings.json");
  require(std::filesystem::exists(path), "{}: no such file or folder", path);
  const dictionaries::Dictionary dictionary = dictionaries::describe_dictionary(path);
  dictionaries::CrosscoderConfig training = dictionary.training;
  return {{"training", fields_to_json([&](FieldVisitor& v) { training.fields(v); })},
          {"model", dictionary.model_name},
          {"matrix", dictionary.matrix},
          {"steps", dictionary.steps},
          {"seed", dictionary.seed}};
}

}  // namespace

std::optional<Json> show_recipe(const std::string& path) {
  const auto name = recipe_name(path);
  if (!name) return std::nullopt;
  const SettingsFile file(name->file);
  Json summary{{"kind", "recipe"}, {"layout", "yaml"}, {"steps", Json::array()}};
  if (name->arm.empty()) summary["arms"] = file.arms();
  summary.update(recipe_json(file, name->arm));
  return summary;
}

Outcome show_against(const std::string& a, const std::string& b) {
  const auto found = differences(settings_at(a), settings_at(b));
  Outcome outcome;
  Json list = Json::array();
  std::vector<std::array<std::string, 3>> rows{{"field", a, b}};
  for (const Difference& d : found) {
    list.push_back({{"field", d.path}, {"a", d.before}, {"b", d.now}});
    rows.push_back({d.path, escape_for_terminal(d.before), escape_for_terminal(d.now)});
  }
  std::size_t field_width = 0, a_width = 0;
  for (const auto& [field, before, now] : rows) {
    field_width = std::max(field_width, field.size());
    a_width = std::max(a_width, before.size());
  }
  outcome.summary = {{"a", a}, {"b", b}, {"differences", list}};
  if (found.empty()) {
    outcome.text = fmt::format("{} and {} have the same settings\n", a, b);
    return outcome;
  }
  for (const auto& [field, before, now] : rows)
    outcome.text += fmt::format("{:<{}}  {:<{}}  {}\n", field, field_width, before, a_width, now);
  return outcome;
}

}  // namespace cresco::verbs
