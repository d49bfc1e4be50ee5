#include "cresco/pretrain/run_folder.h"

#include "cresco/base/json.h"
#include "cresco/base/require.h"
#include "cresco/base/strings.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace cresco::pretrain {

namespace {

// Of the folders step<N> in `folder` that hold `file`, N, ascending.
std::vector<std::int64_t> steps_in(const Path& folder, const char* file) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step") && std::filesystem::exists(entry.path() / file))
      steps.push_back(parse_int(name.substr(4), entry.path().string()));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace

std::vector<std::int64_t> RunFolder::states() const {
  return steps_in(path / "state", "state.json");
}

std::vector<std::int64_t> RunFolder::snapshots() const {
  return steps_in(path / "snapshots", "model.safetensors");
}

std::vector<std::int64_t> RunFolder::changes() const {
  return steps_in(path / "earlier", "recipe.yaml");
}

std::vector<std::int64_t> RunFolder::due_snapshots() const {
  std::vector<std::int64_t> due;
  for (const std::int64_t change : changes())
    for (const std::int64_t step : RunFolder{earlier(change)}.read_recipe().snapshot_steps())
      if (step <= change) due.push_back(step);
  for (const std::int64_t step : read_recipe().snapshot_steps()) due.push_back(step);
  return due;
}

RunFolder RunFolder::settings_at(std::int64_t step) const {
  const auto all = changes();
  const auto next = std::upper_bound(all.begin(), all.end(), step);
  return next == all.end() ? *this : RunFolder{earlier(*next)};
}

Recipe RunFolder::read_recipe() const {
  Recipe read;
  require(std::filesystem::file_size(recipe()) > 0, "{}: is empty", recipe().string());
  fields_from_yaml_file([&read](FieldVisitor& v) { read.fields(v); }, recipe().string());
  if (!std::filesystem::exists(data_order())) return read;
  const std::string where = data_order().string();
  const Json order = read_json_file(data_order());
  if (!order.is_object() || !order.contains("begins")) return read;
  const Json& begins = order["begins"];
  read.begins = {.step = get_int(begins, "step", where),
                 .tokens = get_int(begins, "tokens", where),
                 .place = get_int(begins, "place", where)};
  require(read.begins.step >= 0 && read.begins.tokens >= 0 && read.begins.place >= 0,
          "{}: 'begins' has a negative number", where);
  return read;
}

void RunFolder::clean(const Recipe& recipe) const {
  for (const char* part : {"", "snapshots", "state", "earlier"}) remove_temporaries(path / part);
  const auto is_due = [&](std::int64_t step) {
    return (recipe.state.every > 0 && step % recipe.state.every == 0) ||
           step == recipe.total_steps() || step == recipe.begins.step;
  };
  const auto steps = states();
  std::int64_t due_and_newer = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const bool is_older = *step < recipe.begins.step;
    if (!is_older && (is_due(*step) ? due_and_newer++ < recipe.state.keep : step == steps.rbegin()))
      continue;
    remove_folder(state(*step));
  }
}

}  // namespace cresco::pretrain
