#include "cresco/pretrain/run_folder.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::pretrain {

std::vector<std::int64_t> RunFolder::states() const {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path / "state", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step") && std::filesystem::exists(entry.path() / "state.json"))
      steps.push_back(parse_int(name.substr(4), entry.path().string()));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void RunFolder::clean(const Recipe& recipe) const {
  for (const Path& folder : {path, path / "snapshots", path / "state"}) remove_temporaries(folder);
  const auto is_due = [&](std::int64_t step) {
    return (recipe.state.every > 0 && step % recipe.state.every == 0) ||
           step == recipe.total_steps();
  };
  const auto steps = states();
  std::int64_t due_and_newer = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (is_due(*step) ? due_and_newer++ < recipe.state.keep : step == steps.rbegin()) continue;
    remove_folder(state(*step));
  }
}

std::vector<Difference> recipe_changes(const RunFolder& run, Recipe recipe) {
  Recipe stored;
  fields_from_yaml_file([&](FieldVisitor& v) { stored.fields(v); }, run.recipe().string());
  return differences(fields_to_json([&](FieldVisitor& v) { stored.fields(v); }),
                     fields_to_json([&](FieldVisitor& v) { recipe.fields(v); }));
}

}  // namespace cresco::pretrain
