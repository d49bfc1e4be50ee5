#include "cresco/pretrain/run_folder.h"

#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <algorithm>
#include <map>

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

void RunFolder::clean(std::int64_t keep) const {
  for (const Path& folder : {path, path / "snapshots", path / "state"}) remove_temporaries(folder);
  auto steps = states();
  while (static_cast<std::int64_t>(steps.size()) > keep) {
    std::error_code ignored;
    std::filesystem::remove_all(state(steps.front()), ignored);
    steps.erase(steps.begin());
  }
}

void require_same_recipe(const RunFolder& run, Recipe recipe) {
  Recipe stored;
  fields_from_yaml_file([&](FieldVisitor& v) { stored.fields(v); }, run.recipe().string());
  std::map<std::string, std::string> before;
  const auto text = [](const auto& value) {
    if constexpr (requires { value.begin(); })
      return fmt::format("{}", fmt::join(value, ","));
    else
      return fmt::format("{}", value);
  };
  EachField collect([&](const std::string& path, auto& value, const char*, const char*) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
      before[path] = value;
    else
      before[path] = text(value);
  });
  stored.fields(collect);
  EachField compare([&](const std::string& path, auto& value, const char*, const char*) {
    std::string now;
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
      now = value;
    else
      now = text(value);
    require(before[path] == now, "{}: cannot go on with another recipe: {} was {}, now it is {}",
            run.path.string(), path, before[path], now);
  });
  recipe.fields(compare);
  require(fields_to_yaml([&](FieldVisitor& v) { stored.fields(v); }) ==
              fields_to_yaml([&](FieldVisitor& v) { recipe.fields(v); }),
          "{}: cannot go on with other optimizer.rules than it began with", run.path.string());
}

}  // namespace cresco::pretrain
